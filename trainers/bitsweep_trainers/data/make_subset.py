"""Make fashion_mnist_6k.npz from the IDX files of Fashion-MNIST; the same bytes every time.

    python -m bitsweep_trainers.data.make_subset FOLDER OUTPUT.npz

FOLDER holds the four .gz files as Zalando publishes them.
"""

import sys
from pathlib import Path

import numpy as np

from bitsweep_trainers.data.arrays import Labelled, RawArrays, write_npz
from bitsweep_trainers.data.idx import FASHION_MNIST, read_gz_folder

TRAIN_PER_CLASS = 600
TEST_PER_CLASS = 200


def first_of_each_class(part: Labelled, count: int) -> Labelled:
    """The first `count` images of every class, in the order of the whole set."""
    chosen = np.sort(
        np.concatenate(
            [np.flatnonzero(part.labels == label)[:count] for label in np.unique(part.labels)]
        )
    )
    return Labelled(images=part.images[chosen], labels=part.labels[chosen])


def main(folder: Path, output: Path) -> None:
    """Read and verify the whole set, write the subset."""
    whole = read_gz_folder(folder, FASHION_MNIST)
    subset = RawArrays(
        train=first_of_each_class(whole.train, TRAIN_PER_CLASS),
        test=first_of_each_class(whole.test, TEST_PER_CLASS),
    )
    write_npz(output, subset, is_compressed=True)
    print(f"{output}: decoded sha256 {subset.sha256}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
