"""What the energy depends on: irreps of a layer whose gradients the backward pass of a step needs."""

from dataclasses import dataclass

from race_calc.model.plan import Key, LayerPlan, Plan

SCALARS: Key = (0, 1)


@dataclass(frozen=True)
class Live:
    """Of one layer: degrees and parities of what comes in, of the sums, of what leaves, and of the targets of each product."""

    inputs: frozenset[Key]
    sums: frozenset[Key]
    outputs: frozenset[Key]
    targets: tuple[frozenset[Key], ...]


def live_of(plan: Plan) -> list[Live]:
    """Of every layer: the energy is read from the scalars of each."""
    found: list[Live] = []
    ahead: frozenset[Key] = frozenset()
    for layer in reversed(plan.layers):
        found.insert(0, _of_layer(layer, ahead | {SCALARS}))
        ahead = found[0].inputs
    return found


def _of_layer(layer: LayerPlan, outputs: frozenset[Key]) -> Live:
    sums = {ir.key for ir in layer.sums} & outputs
    targets: list[frozenset[Key]] = []
    before: set[Key] = set()  # left factors of the order above
    for product in reversed(layer.products):
        live = {ir.key for ir in product.targets} & (outputs | before)
        used = [c for c in product.couplings if product.targets[c.target].key in live]
        left, right = {product.left[c.left].key for c in used}, {product.right[c.right].key for c in used}
        sums |= right | (left if product.order == 2 else set())
        before = left
        targets.insert(0, frozenset(live))
    reached = {layer.inputs[path.source].key for path in layer.paths if layer.sums[path.target].key in sums}
    passed = {ir.key for ir in layer.inputs} & outputs
    return Live(frozenset(reached | passed), frozenset(sums), frozenset(outputs), tuple(targets))
