"""FIDs that others have published of the family's models: each with its source and protocol, and apart from ours."""

from tables.lines import table

# source -> (where, protocol)
SOURCES = {
    "rae": ("Ghosh et al. 2020, table 1", "10,000 samples against the test pictures"),
    "dai_wipf": (
        "Dai and Wipf 2019, table 1",
        "10,000 samples, each stretched to the whole range, against the test pictures (`dai-wipf-2019`)",
    ),
    "chadebec": ("Chadebec and Allassonnière 2022", "against the test pictures; number of samples not known to us"),
    "asadi": ("Asadi 2022, table 5.2", "names none; VAE and WAE are, to the digit, those of Dai and Wipf 2019"),
    "collections": ("pytorch-gan-collections (repository)", "50,000 samples against the training pictures"),
}
# (data set, row of our table, model and prior as the source has them, FID, source)
VALUES = (
    ("MNIST", "ae", "AE, Gaussian", 58.7, "rae"),
    ("MNIST", "ae", "AE, mixture of ten", 10.7, "rae"),
    ("MNIST", "ae", "AE, N(0, I)", 46.4, "chadebec"),
    ("MNIST", "ae", "AE, mixture of ten", 9.6, "chadebec"),
    ("MNIST", "rae", "RAE-L2, Gaussian", 22.2, "rae"),
    ("MNIST", "rae", "RAE-L2, mixture of ten", 8.7, "rae"),
    ("MNIST", "rae", "RAE-L2, mixture of ten", 9.9, "chadebec"),
    ("MNIST", "wae", "WAE, N(0, I)", 20.4, "rae"),
    ("MNIST", "wae", "WAE, mixture of ten", 9.4, "rae"),
    ("MNIST", "wae", "WAE-MMD, N(0, I)", 115.0, "dai_wipf"),
    ("MNIST", "wae", "WAE, N(0, I)", 20.7, "chadebec"),
    ("MNIST", "vae", "VAE, N(0, I)", 19.2, "rae"),
    ("MNIST", "vae", "VAE, mixture of ten", 17.7, "rae"),
    ("MNIST", "vae", "VAE, learned variance, N(0, I)", 54.5, "dai_wipf"),
    ("MNIST", "vae", "VAE, learned variance, two stages", 12.6, "dai_wipf"),
    ("MNIST", "vae", "VAE, N(0, I)", 40.7, "chadebec"),
    ("MNIST", "vae", "VAE, mixture of ten", 13.1, "chadebec"),
    ("MNIST", "vamp_vae", "VAE, VampPrior", 34.0, "chadebec"),
    ("MNIST", "bernoulli_vae", "VAE, cross entropy, N(0, I)", 16.6, "dai_wipf"),
    ("CIFAR-10", "ae", "AE, Gaussian", 84.7, "rae"),
    ("CIFAR-10", "ae", "AE, mixture of ten", 76.5, "rae"),
    ("CIFAR-10", "ae", "AE, N(0, I)", 196.5, "chadebec"),
    ("CIFAR-10", "ae", "AE, mixture of ten", 130.3, "chadebec"),
    ("CIFAR-10", "rae", "RAE-L2, Gaussian", 80.8, "rae"),
    ("CIFAR-10", "rae", "RAE-L2, mixture of ten", 74.2, "rae"),
    ("CIFAR-10", "rae", "RAE-L2, mixture of ten", 123.3, "chadebec"),
    ("CIFAR-10", "wae", "WAE, N(0, I)", 117.4, "rae"),
    ("CIFAR-10", "wae", "WAE, mixture of ten", 93.5, "rae"),
    ("CIFAR-10", "wae", "WAE-MMD, N(0, I)", 80.9, "dai_wipf"),
    ("CIFAR-10", "wae", "WAE, N(0, I)", 133.0, "chadebec"),
    ("CIFAR-10", "wae", "WAE", 80.9, "asadi"),
    ("CIFAR-10", "vae", "VAE, N(0, I)", 106.4, "rae"),
    ("CIFAR-10", "vae", "VAE, mixture of ten", 103.8, "rae"),
    ("CIFAR-10", "vae", "VAE, learned variance, N(0, I)", 76.7, "dai_wipf"),
    ("CIFAR-10", "vae", "VAE, learned variance, two stages", 72.9, "dai_wipf"),
    ("CIFAR-10", "vae", "VAE, cross entropy, N(0, I)", 106.0, "dai_wipf"),
    ("CIFAR-10", "vae", "VAE, N(0, I)", 162.6, "chadebec"),
    ("CIFAR-10", "vae", "VAE, mixture of ten", 138.3, "chadebec"),
    ("CIFAR-10", "vae", "VAE", 106.0, "asadi"),
    ("CIFAR-10", "vamp_vae", "VAE, VampPrior", 198.1, "chadebec"),
    ("CIFAR-10", "gan", "DCGAN", 30.9, "asadi"),
    ("CIFAR-10", "gan", "SNGAN, CNN, 100,000 steps of 128", 17.8, "collections"),
    ("CIFAR-10", "dfm_thesis", "Fourier net", 80.5, "asadi"),
)


def published_fids() -> str:
    """A line for each value."""
    body = [[dataset, row, model, f"{value:.1f}", *SOURCES[source]] for dataset, row, model, value, source in VALUES]
    return table(["data set", "nearest row of ours", "model and prior", "FID", "source", "protocol"], body)
