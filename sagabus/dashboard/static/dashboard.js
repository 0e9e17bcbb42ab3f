// Keyboard, theme, copying. Everything else is links, forms and fragments that the server renders.
(() => {
  "use strict";
  const root = document.documentElement;

  function turnTheme() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try {
      localStorage.setItem("sagabus-theme", root.dataset.theme);
    } catch (error) {
      // For this page alone, then.
    }
  }

  const shortcuts = document.getElementById("shortcuts");
  document.getElementById("theme").addEventListener("click", turnTheme);
  document.getElementById("keys").addEventListener("click", () => shortcuts.showModal());

  let goes = false;
  function step(by) {
    const rows = [...document.querySelectorAll("[data-row] a:first-of-type")];
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement);
    rows[Math.min(Math.max(at < 0 ? 0 : at + by, 0), rows.length - 1)].focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || shortcuts.open) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (goes) {
      goes = false;
      const page = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (page) page.click();
      return;
    }
    switch (event.key) {
      case "g": goes = true; setTimeout(() => { goes = false; }, 1500); break;
      case "/": {
        const search = document.querySelector("input[type=search]");
        if (search) { event.preventDefault(); search.focus(); search.select(); }
        break;
      }
      case "j": step(1); break;
      case "k": step(-1); break;
      case "t": turnTheme(); break;
      case "?": shortcuts.showModal(); break;
    }
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    navigator.clipboard.writeText(text).then(
      () => tell("Copied"),
      () => tell("The browser does not let it be copied; select the text"),
    );
  });

  // A version of the graph is a row of text and a node: clicking the node is clicking the row.
  document.addEventListener("click", (event) => {
    const node = event.target.closest("[data-version]");
    if (!node) return;
    const row = document.querySelector(`.commit[data-commit="${CSS.escape(node.dataset.version)}"] a`);
    if (row) row.click();
  });

  function tell(text) {
    document.getElementById("told").textContent = text;
    setTimeout(() => { document.getElementById("told").textContent = ""; }, 4000);
  }

  document.body.addEventListener("told", (event) => tell(event.detail.value));
  document.body.addEventListener("htmx:responseError", (event) => {
    tell(event.detail.xhr.responseText.slice(0, 300) || `The server said ${event.detail.xhr.status}`);
  });
  document.body.addEventListener("htmx:sendError", () => tell("The dashboard does not answer"));
})();
