// Light or dark before anything is drawn: what was chosen here before, else what the system says.
(() => {
  "use strict";
  try {
    const chosen = localStorage.getItem("bitsweep-theme");
    if (chosen === "light" || chosen === "dark") {
      document.documentElement.dataset.theme = chosen;
    }
  } catch (error) {
    // A browser that keeps nothing follows the system.
  }
})();
