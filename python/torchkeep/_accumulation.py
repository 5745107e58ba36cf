# SPDX-License-Identifier: BSD-3-Clause
"""Notices gradients that are state: made before a finish_step(), used by an optimizer's step after it, and not saved."""
import weakref


class UnsavedGradients:
    """`modules` is [(tracked name, module)], `warn` is called once, with words. Gradients that are there at a finish_step()
    are usually those of the step before, which zero_grad() drops; they matter where no optimizer stepped since the last
    finish_step(), and only if one then finds the same tensors."""

    def __init__(self, modules, warn):
        self._modules = modules
        self._warn = warn
        self._stepped = False
        self._step = 0
        self._seen = {}  # {id of the parameter: its gradient at the last finish_step()}

    def watch(self, optimizer):
        """The handles of the hooks that this needs."""
        try:
            return [optimizer.register_step_pre_hook(lambda one, *_: self._before_step(one))]
        except AttributeError:  # it has no hooks
            return []

    def finished(self, step):
        """A finish_step()."""
        self._seen = {} if self._stepped or self._warn is None else {
            id(parameter): weakref.ref(parameter.grad) for _, module in self._modules for parameter in module.parameters()
            if parameter.grad is not None}
        self._stepped, self._step = False, step

    def _before_step(self, optimizer):
        self._stepped = True
        seen, self._seen = self._seen, {}
        used = [parameter for group in optimizer.param_groups for parameter in group["params"]
                if parameter.grad is not None and seen.get(id(parameter), _gone)() is parameter.grad]
        if used and self._warn is not None:
            self._warn(f"gradients of {len(used)} parameters were accumulated before finish_step() of step {self._step} and "
                       "used after it, but they are not saved, so a run resumed there would go on without them: call "
                       "finish_step() only after optimizer.step(), or use Run(gradients=True)")
            self._warn = None


def _gone():
    return None
