"""The data sets as records, without torch or numpy: shapes, sizes, digests, how they are split."""

from hashlib import sha256

from bitsweep.declaration import DataDeclaration

SPLIT_RULE = (
    "validation: of the training images of each class, in the order of the file, the last tenth "
    "(rounded down), or the last 100 where the class has fewer than 1000; train: the others; "
    "test: the test images of the file"
)

# The official python version's members, as torchvision knows them.
CIFAR100_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
_DECLARED = (
    DataDeclaration(
        name="fashion-mnist-6k",
        title="Fashion-MNIST, the first 600 train and 200 test images of each class",
        source="Xiao et al., arXiv 1708.07747; MIT",
        sha256="d2af129cb1b3fb8d4b541ca37b4a4b0b7cd91dd12f9cc7afef8f443fcc0e215f",
        shape=(1, 28, 28),
        classes=10,
        sizes={"train": 5000, "validation": 1000, "test": 2000},
        split_rule=SPLIT_RULE,
        is_shipped=True,
    ),
    DataDeclaration(
        name="fashion-mnist",
        title="Fashion-MNIST",
        source="Xiao et al., arXiv 1708.07747; MIT",
        sha256="5b2a18122a1079a29f3b041d6b4d126869b6a660074cfa2c4bb05d7047d34425",
        shape=(1, 28, 28),
        classes=10,
        sizes={"train": 54000, "validation": 6000, "test": 10000},
        split_rule=SPLIT_RULE,
    ),
    DataDeclaration(
        name="mnist",
        title="MNIST",
        source="LeCun et al., 1998",
        sha256="3e6b040c9a5faf94a30024e9af4e30d7b7d459d1e25b0990829aad243d43aa69",
        shape=(1, 28, 28),
        classes=10,
        sizes={"train": 54004, "validation": 5996, "test": 10000},
        split_rule=SPLIT_RULE,
    ),
    DataDeclaration(
        name="cifar10",
        title="CIFAR-10",
        source="Krizhevsky, 2009",
        sha256="d899c80f735a4794ec04c3b179e5ca2849cfe306cd567dc68eaea2915916f80e",
        shape=(3, 32, 32),
        classes=10,
        sizes={"train": 45000, "validation": 5000, "test": 10000},
        split_rule=SPLIT_RULE,
    ),
    DataDeclaration(
        name="cifar100",
        title="CIFAR-100, its 100 fine classes",
        source="Krizhevsky, 2009",
        sha256=sha256("\n".join(CIFAR100_MD5.values()).encode()).hexdigest(),
        shape=(3, 32, 32),
        classes=100,
        sizes={"train": 40000, "validation": 10000, "test": 10000},
        split_rule=SPLIT_RULE,
        identified_by="files",
    ),
)
DATA_SETS: dict[str, DataDeclaration] = {one.name: one for one in _DECLARED}
