"""The operators as modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from softperm._checks import require_noise_scale, require_positive_int
from softperm._teach import teaching
from softperm._typing import SampleShape
from softperm.ops import gumbel_sinkhorn, sinkhorn
from softperm.ops._options import Backend, Grad, check_grad, check_tau, check_tol

__all__ = ["DoublyStochastic", "GumbelSinkhorn", "Sinkhorn"]


class _Iteration(nn.Module):
    """What both modules are told once: tensors move with the module, parameters are learnt."""

    def __init__(
        self,
        tau: float | Tensor,
        n_iters: int,
        row_sums: float | Tensor | None,
        col_sums: float | Tensor | None,
        slack: float | Tensor | None,
        tol: float | None,
        backend: Backend,
        grad: Grad,
    ) -> None:
        super().__init__()
        check_tau(tau, torch.Size(tau.shape if isinstance(tau, Tensor) else ()))
        check_tol(tol)
        check_grad(grad)
        self.tau: float | Tensor
        given = {"tau": tau, "row_sums": row_sums, "col_sums": col_sums, "slack": slack}
        for name, value in given.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self.n_iters = require_positive_int(n_iters, "n_iters")
        self.tol = tol
        self.backend = backend
        self.grad = grad

    def _given(self) -> dict[str, Any]:
        names = ("row_sums", "col_sums", "slack", "tol", "backend", "grad")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        """The settings that are not the default, as `print(module)` shows them."""
        shown = {"tau": self.tau, "n_iters": self.n_iters, **self._given()}
        usual: dict[str, object] = {"row_sums": None, "col_sums": None, "slack": None, "tol": None}
        usual |= {"backend": "auto", "grad": "unrolled"}
        return ", ".join(
            f"{name}={tuple(value.shape) if isinstance(value, Tensor) else value}"
            for name, value in shown.items()
            if isinstance(value, Tensor) or name not in usual or value != usual[name]
        )


class Sinkhorn(_Iteration):
    r"""`softperm.sinkhorn` as a module, with the same arguments.

    A tensor that is given becomes a buffer; a `torch.nn.Parameter` is learnt, as slack often is.
    `tau` may be changed between calls: ``module.tau = 0.5``; a tensor by another tensor.

    Arguments:
        tau: As in `sinkhorn`.
        n_iters: As in `sinkhorn`.
        row_sums: As in `sinkhorn`.
        col_sums: As in `sinkhorn`.
        slack: As in `sinkhorn`.
        hard: In evaluation mode give permutation matrices, as `hard` of `gumbel_sinkhorn`.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Raises:
        TypeError, ValueError: as `sinkhorn`, some of them when called.

    Example:
        >>> module = Sinkhorn(tau=0.5, slack=torch.nn.Parameter(torch.tensor(0.0)))
        >>> module
        Sinkhorn(tau=0.5, n_iters=20, slack=())
        >>> module(torch.randn(8, 3, 4)).shape
        torch.Size([8, 4, 5])
    """

    @teaching
    def __init__(
        self,
        tau: float | Tensor = 1.0,
        n_iters: int = 20,
        *,
        row_sums: float | Tensor | None = None,
        col_sums: float | Tensor | None = None,
        slack: float | Tensor | None = None,
        hard: bool = False,
        tol: float | None = None,
        backend: Backend = "auto",
        grad: Grad = "unrolled",
    ) -> None:
        super().__init__(tau, n_iters, row_sums, col_sums, slack, tol, backend, grad)
        self.hard = hard

    def forward(
        self,
        log_alpha: Tensor,
        *,
        n_rows: int | Tensor | None = None,
        n_cols: int | Tensor | None = None,
    ) -> Tensor:
        r"""Compute the matrices, (\*, m, n), with slack (\*, m + 1, n + 1); see `sinkhorn`."""
        given = {"n_rows": n_rows, "n_cols": n_cols, **self._given()}
        if self.hard and not self.training:
            options = {"noise_scale": 0.0, "hard": True, **given}
            return gumbel_sinkhorn(log_alpha, self.tau, self.n_iters, **options)
        S: Tensor = sinkhorn(log_alpha, self.tau, self.n_iters, **given)
        return S


class GumbelSinkhorn(_Iteration):
    r"""`softperm.gumbel_sinkhorn` as a module, with the same arguments.

    Noise belongs to training. Evaluation mode leaves it out: the result is S(X / tau), or with
    `hard` or `hard_in_eval` the matching.

    Arguments:
        tau: As in `sinkhorn`; may be changed between calls, as that of `Sinkhorn`.
        n_iters: As in `sinkhorn`.
        noise_scale: As in `gumbel_sinkhorn`.
        hard: As in `gumbel_sinkhorn`.
        hard_in_eval: Give permutation matrices in evaluation mode, also where training is soft.
        row_sums: As in `sinkhorn`. Tensors become buffers, parameters are learnt.
        col_sums: As in `sinkhorn`.
        slack: As in `sinkhorn`.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Raises:
        TypeError, ValueError: as `gumbel_sinkhorn`, some of them when called.

    Example:
        >>> module = GumbelSinkhorn(tau=0.5, hard_in_eval=True)
        >>> module(torch.zeros(3, 3), sample_shape=10).shape
        torch.Size([10, 3, 3])
        >>> module.eval()(torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """

    @teaching
    def __init__(
        self,
        tau: float | Tensor = 1.0,
        n_iters: int = 20,
        *,
        noise_scale: float = 1.0,
        hard: bool = False,
        hard_in_eval: bool = False,
        row_sums: float | Tensor | None = None,
        col_sums: float | Tensor | None = None,
        slack: float | Tensor | None = None,
        tol: float | None = None,
        backend: Backend = "auto",
        grad: Grad = "unrolled",
    ) -> None:
        super().__init__(tau, n_iters, row_sums, col_sums, slack, tol, backend, grad)
        self.noise_scale = require_noise_scale(noise_scale)
        self.hard = hard
        self.hard_in_eval = hard_in_eval

    def forward(
        self,
        log_alpha: Tensor,
        *,
        sample_shape: SampleShape = (),
        generator: torch.Generator | None = None,
        n_rows: int | Tensor | None = None,
        n_cols: int | Tensor | None = None,
    ) -> Tensor:
        r"""Draw samples in training; in evaluation leave out the noise; see `gumbel_sinkhorn`."""
        return gumbel_sinkhorn(
            log_alpha,
            self.tau,
            self.n_iters,
            noise_scale=self.noise_scale if self.training else 0.0,
            sample_shape=sample_shape,
            generator=generator,
            hard=self.hard or (self.hard_in_eval and not self.training),
            n_rows=n_rows,
            n_cols=n_cols,
            **self._given(),
        )


class DoublyStochastic(nn.Module):
    r"""Keep a weight doubly stochastic, for `torch.nn.utils.parametrize`.

    .. math:: W = S(X / \tau)

    X is what is learnt. Assigning a matrix W to the weight sets X = tau log W, so that a doubly
    stochastic W comes back unchanged. A matrix with entries below 0, as weights have at first, is
    taken for X itself.

    Arguments:
        tau: Temperature, a positive float.
        n_iters: Number of Sinkhorn iterations.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Example:
        >>> from torch.nn.utils import parametrize
        >>> layer = torch.nn.Linear(3, 3, bias=False)
        >>> layer = parametrize.register_parametrization(layer, "weight", DoublyStochastic())
        >>> torch.testing.assert_close(layer.weight.sum(0), torch.ones(3))
    """

    @teaching
    def __init__(self, tau: float = 1.0, n_iters: int = 20) -> None:
        super().__init__()
        tau = check_tau(tau, torch.Size())  # type: ignore[assignment]
        self.tau = tau
        self.n_iters = require_positive_int(n_iters, "n_iters")

    def forward(self, X: Tensor) -> Tensor:
        r"""The weight S(X / tau), shape of X, (\*, m, n)."""
        return sinkhorn(X, self.tau, self.n_iters)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """X for a weight."""
        if bool((weight < 0).any()):
            return weight
        return self.tau * weight.clamp_min(torch.finfo(weight.dtype).tiny).log()
