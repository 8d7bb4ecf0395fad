‰DFM2?gE#
14ôæóE™‰C^ßˆO¤Í9m^mØNÑqXõ7