"""`dfm bench`: rate-distortion curves of several codecs on a folder of pictures."""
