"""`dfm.data.prepare folder:PATH` reads every picture and names those that are damaged."""

import numpy as np

from dfm.data.prepare import main
from dfm.picture_files import save_picture


def test_every_picture_of_a_folder_is_read_and_all_damaged_ones_are_named(tmp_path, capsys):
    for split, count in (("train", 5), ("test", 2)):
        (tmp_path / split).mkdir()
        for row in range(count):
            picture = np.random.default_rng(row).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            save_picture(tmp_path / split / f"{row}.png", picture)
    assert main([f"folder:{tmp_path}"]) == 0
    assert f"folder:{tmp_path}: train 5 pictures, test 2 pictures, all of them readable" in capsys.readouterr().out
    for path in (tmp_path / "train" / "3.png", tmp_path / "test" / "0.png"):
        path.write_bytes(path.read_bytes()[:400])
    assert main([f"folder:{tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "2 of 7 pictures cannot be read" in said
    assert "3.png" in said and "0.png" in said
