// Draws the trees of `still.py`: [tag, attributes, child, ...] or a text. No markup is ever parsed.
(() => {
  "use strict";

  function element(tree) {
    if (!Array.isArray(tree)) return tree;
    const [tag, attributes, ...children] = tree;
    return React.createElement(tag, attributes, ...children.map(element));
  }

  window.bitsweep_dashboards = { Still: ({ tree }) => element(tree) };
})();
