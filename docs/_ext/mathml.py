"""Equations as MathML, which browsers draw themselves: no script, no network, no LaTeX.

The converter is that of docutils. An accent cannot have an index there: write `\\hat r` or `r_i`, not `\\hat r_i`.
"""

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def setup(app):
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator, node):
    translator.body.append(_converted(node, as_block=False))
    raise nodes.SkipNode


def _display(translator, node):
    translator.body.append(translator.starttag(node, "div", CLASS="math") + _converted(node, as_block=True) + "</div>\n")
    raise nodes.SkipNode


def _converted(node, as_block: bool) -> str:
    """The equation; where it cannot be read nothing, and a warning, which ends `make docs`."""
    try:
        return latex2mathml.tex2mathml(node.astext().strip(), as_block=as_block)
    except (MathError, SyntaxError) as error:
        logger.warning("cannot read the equation %r: %s", node.astext(), error, location=node)
        return ""
