// Links, forms, copying, light and dark: everything the pages do without asking the server.
(() => {
  "use strict";

  // Dash's Location listens to this event; the address alone decides what is shown.
  function go(address, stays) {
    history.pushState({}, "", address);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    if (!stays) {
      window.scrollTo(0, 0);
      const page = document.getElementById("page");
      if (page) page.focus({ preventScroll: true });
    }
  }

  // A picker is drawn anew by its own choice: the keyboard's place in it must not be lost.
  let kept = null;
  function keepFocus(link) {
    const group = link.closest("[aria-label]");
    kept = group && { group: group.getAttribute("aria-label"), text: link.textContent };
  }
  new MutationObserver(() => {
    if (!kept || document.activeElement !== document.body) return;
    const links = document.querySelectorAll(`[aria-label="${CSS.escape(kept.group)}"] a`);
    const same = [...links].find((one) => one.textContent === kept.text);
    if (same) same.focus({ preventScroll: true });
  }).observe(document.documentElement, { childList: true, subtree: true });

  function isOurs(link) {
    return link.origin === location.origin && !link.hasAttribute("download") && !link.target;
  }

  // Outside of the page, which may be drawn anew at any moment; there before it has to speak.
  const said = document.createElement("div");
  said.id = "said";
  said.setAttribute("role", "status");
  const place = () => document.body.append(said);
  if (document.body) place(); else document.addEventListener("DOMContentLoaded", place);
  let silence = 0;
  function announce(text) {
    said.textContent = text;
    clearTimeout(silence);
    silence = setTimeout(() => { said.textContent = ""; }, 4000);
  }

  function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    if (!source) return;
    const text = source.textContent;
    const byHand = () => {
      const box = document.createElement("textarea");
      box.value = text;
      document.body.append(box);
      box.select();
      const worked = document.execCommand("copy");
      box.remove();
      announce(worked ? "Copied" : "Copying is not allowed here");
    };
    // Off loopback and without TLS, browsers have no clipboard.
    if (navigator.clipboard) {
      navigator.clipboard.writeText(text).then(() => announce("Copied"), byHand);
    } else {
      byHand();
    }
  }

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function toggleTheme() {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("bitsweep-theme", theme); } catch (error) { /* lasts for this page */ }
  }

  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const open = document.querySelectorAll("details.explain[open]");
    open.forEach((one) => { if (!one.contains(event.target)) one.open = false; });
    const button = event.target.closest("button");
    if (button && button.dataset.copy) { copy(button); return; }
    if (button && button.id === "theme") { toggleTheme(); return; }
    const link = event.target.closest("a[href]");
    const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
    if (!link || !isPlain || event.defaultPrevented || !isOurs(link)) return;
    if (link.getAttribute("href").startsWith("#")) return;
    event.preventDefault();
    keepFocus(link);
    go(link.href, "stay" in link.dataset);
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.go) return;
    event.preventDefault();
    const pairs = [...new FormData(form)].filter(([, value]) => String(value).trim() !== "");
    go(`${form.getAttribute("action").split("?")[0]}?${new URLSearchParams(pairs)}`, true);
    if (form.classList.contains("inline")) form.reset();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      document.querySelectorAll("details.explain[open]").forEach((one) => {
        one.open = false;
        one.querySelector("summary").focus();
      });
    }
    const box = event.target;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && box.form && box.form.dataset.go) {
      box.form.requestSubmit();
    }
  });
})();
