"""README.md's numbers."""

from tables.lines import rows, table
from tables.rate_distortion import against, summary


def codec(protocol: str, bench: str = "bench") -> list[str]:
    """The codec's row, all over the range of PSNR that both curves have."""
    found = summary(f"{protocol}/{bench}")
    jpeg, webp, avif = against(f"{protocol}/{bench}")
    low, high = jpeg["psnr_range"]
    effort = found["codecs"]["dfm-latents"]["options"]["effort"]
    return [
        "picture codec: bytes against Pillow's JPEG",
        f"{jpeg['percent']:+.1f} %",
        f"against WebP {webp['percent']:+.1f} %, against AVIF {avif['percent']:+.1f} %",
        f"{protocol}, {len(found['pictures'])} pictures, effort {effort}, BD-rate from {low:.1f} to {high:.1f} dB",
    ]


def headline() -> str:
    """Numbers, losses included, each with its protocol and what it stands beside."""
    painted = {line["name"]: line["metrics"] for line in rows("figures_generation")}
    mnist, cifar10 = painted["figure_5_4"], painted["figure_5_8"]
    autoencoder = [line for line in rows("figures_autoencoder") if line["name"] == "autoencoder_cifar10"][-1]["metrics"]
    rfid = [line["value"] for line in rows("evaluate_autoencoder") if line["metric"] == "rfid"][-1]
    step = {row["what"]: row["speedup"] for row in rows("bench_train")[-1]["metrics"]["rows"]}
    decode = {
        (row["method"], row["size"]): row["ratio"]
        for line in rows("bench_autoencoder")
        for row in line["metrics"]["rows"]
    }
    study = {(line["config"]["row"], line["config"]["what"]): line["metrics"] for line in rows("study_cifar10")}
    cells, sngan, machine = (study[row, "normal"] for row in ("cells", "sngan", "dfm"))
    local = study["local-256-perceptual", "reconstructions"]
    body = [
        codec("kodak-256"),
        codec("kodak-256", "effort_5"),
        codec("kodak-8"),
        [
            "MNIST from 55 numbers: reconstruction",
            f"{mnist['psnr']:.2f} dB",
            f"PCA {mnist['pca_psnr']:.2f} dB",
            f"5,000 training pictures, {mnist['step']:,} steps",
        ],
        [
            "CIFAR-10 from 110 numbers: reconstruction",
            f"{cifar10['psnr']:.2f} dB",
            f"PCA {cifar10['pca_psnr']:.2f} dB",
            f"5,000 training pictures, {cifar10['step']:,} steps; samples are blurs",
        ],
        [
            "CIFAR-10, cells painted by Fourier nets against a discriminator: FID",
            f"{cells['fid-10k']:.1f}",
            f"SNGAN of equal size and steps {sngan['fid-10k']:.1f}",
            f"fid-10k: 10,000 samples against the training pictures; {cells['steps']:,} steps of 64",
        ],
        [
            "CIFAR-10, the tuned machine of 110 numbers by squared error: FID",
            f"{machine['fid-10k']:.1f}",
            "the thesis claims 80.5, protocol unnamed",
            f"fid-10k, samples of N(0, I); {machine['dai-wipf-2019']:.1f} by dai-wipf-2019; {machine['steps']:,} steps",
        ],
        [
            "CIFAR-10 by a local machine, 256 numbers: reconstruction",
            f"{local['psnr']:.2f} dB, rFID {local['rfid']:.1f}",
            f"PCA {autoencoder['picture_pca_psnr']:.2f} dB",
            "test split, of the mean squared error",
        ],
        [
            "AutoencoderKL, CIFAR-10, 256 numbers",
            f"{autoencoder['psnr']:.2f} dB, rFID {rfid:.1f}",
            f"PCA {autoencoder['picture_pca_psnr']:.2f} dB",
            f"test split, of the mean squared error; rFID over 2,048 pictures, not good; {autoencoder['step']:,} steps",
        ],
        [
            "training step of the thesis' generators: speed",
            f"{step['mnist']['all_devices']:.1f}x, {step['cifar10']['all_devices']:.1f}x",
            "PyTorch eager",
            "MNIST, CIFAR-10; two CPU cores, one run",
        ],
        [
            "AutoencoderKL of the published size, decode 512x512: time",
            f"{decode['decode', 512]['torch']:.2f}",
            f"diffusers = 1 ({decode['decode', 512]['torch channels last']:.2f} of its channels-last form)",
            "float32, two CPU cores, one run",
        ],
    ]
    return table(["", "dfm", "beside it", "protocol"], body)
