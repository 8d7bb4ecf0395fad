"""AutoencoderKL: runs, starts, PyTorch beside it, large pictures, what latents save."""

from tables.lines import minutes, rows, table


def autoencoder_runs() -> str:
    measured: dict[int, dict[str, float]] = {}
    for line in rows("evaluate_autoencoder"):
        measured.setdefault(line["run"]["step"], {})[line["metric"]] = line["value"]
    body = []
    for line in rows("figures_autoencoder"):
        if line["name"] != "autoencoder_cifar10":
            continue
        found, config = line["metrics"], line["config"]
        own = measured.get(found["step"], {})
        digits = {"psnr": ".2f", "ssim": ".3f", "lpips": ".4f", "rfid": ".1f"}
        body.append(
            [
                f"{config['optimizer']['name']}, {config['objective']['adversarial_weight']:g}",
                f"{found['step']:,}, {minutes(found['training_seconds'])}",
                f"{found['psnr']:.2f} dB",
                *(format(own[name], digit) if name in own else "" for name, digit in digits.items()),
                f"{found['picture_pca_psnr']:.2f} dB",
                f"{found['block_pca_psnr']:.2f} dB",
            ]
        )
    head = ["optimizer, discriminator's weight", "steps, time on one core", "PSNR of the mean squared error"]
    head += ["mean of pictures' PSNR", "SSIM", "LPIPS", "rFID, 2,048 pictures"]
    return table([*head, "PCA of pictures, 256 numbers", "PCA of 4x4 blocks"], body)


def autoencoder_start() -> str:
    found: dict[str, dict[tuple, float]] = {}
    for line in rows("study_autoencoder_start"):
        training = line["config"]["training"]
        setting = (training["optimizer.name"], training["optimizer.learning_rate"])
        found.setdefault(line["config"]["start"], {})[setting] = line["metrics"]["psnr"]
    settings = list(next(iter(found.values())))
    body = [[start, *(f"{row[setting]:.2f} dB" for setting in settings)] for start, row in found.items()]
    return table(["start", *(f"{name}, {rate:g}" for name, rate in settings)], body)


def autoencoder_crops() -> str:
    found = [line for line in rows("figures_autoencoder") if line["name"] == "autoencoder_crops"][-1]["metrics"]
    head = ["steps, time on one core", "PSNR on unseen photographs", "PCA of 8x8 blocks with as many numbers"]
    cells = [f"{found['step']:,}, {minutes(found['training_seconds'])}", f"{found['psnr']:.2f} dB"]
    return table(head, [[*cells, f"{found['block_pca_psnr']:.2f} dB"]])


def autoencoder_bench() -> str:
    body = []
    for line in rows("bench_autoencoder"):
        for row in line["metrics"]["rows"]:
            seconds = row["seconds"]
            cells = [f"{row['method']} {row['size']}x{row['size']}", f"{seconds['ours']:.2f} s"]
            for peer in ("torch", "torch channels last"):
                cells += [f"{seconds[peer]:.2f} s", f"{row['ratio'][peer]:.2f}"]
            body.append(cells)
    return table(["", "ours", "diffusers", "ratio", "diffusers, channels last", "ratio"], body)


def large_pictures() -> str:
    lines = rows("large_pictures")
    body = [
        [f"{row['method']} {row['size']}x{row['size']}", f"{row['temporary_mebibytes'] / 1024:.1f} GiB"]
        for line in lines
        for row in line["metrics"]["memory"]
    ]
    text = table(["", "temporaries by XLA's analysis"], body)
    ran = [line["metrics"]["run"] for line in lines if line["metrics"].get("run")][-1]
    return text + (
        f"\n\nRun once, a {ran['size']}x{ran['size']} decode: {ran['whole_peak_resident_mebibytes'] / 1024:.1f} GiB at"
        f" the peak of the process, {ran['whole_seconds']:.0f} s whole and {ran['strip_seconds']:.0f} s by strips,"
        f" which differ by {ran['relative_distance']:.1e} (relative L2)."
    )


def latent_cost() -> str:
    body = [
        [f"{row['size']}x{row['size']}", *(f"{row[kind]['ratio']:,.0f}" for kind in ("convolutional", "attention"))]
        for row in rows("latent_cost")[-1]["metrics"]["rows"]
    ]
    return table(["picture", "convolutions: times less", "with attention: times less"], body)


AUTOENCODER = (autoencoder_runs, autoencoder_start, autoencoder_crops, autoencoder_bench, large_pictures, latent_cost)
