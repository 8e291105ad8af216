"""What a teacher adds to the loss of labels; who teaches is its caller's."""

from torch import Tensor
from torch.nn import functional


def student_loss(
    logits: Tensor, teacher: Tensor, labels: Tensor, *, weight: float, temperature: float = 1.0
) -> Tensor:
    """(1-alpha) CE(z, y) + alpha T^2 mean_n(-sum_c p_nc log softmax(z/T)_nc) (MBQuant's code).

    p = softmax(teacher/T); no gradient goes to the teacher. Logits (N, classes).
    """
    hard = functional.cross_entropy(logits, labels)
    if weight == 0:
        return hard
    p = functional.softmax(teacher.detach() / temperature, 1)
    soft = functional.cross_entropy(logits / temperature, p)
    return (1 - weight) * hard + weight * temperature**2 * soft
