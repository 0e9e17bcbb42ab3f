// Keyboard, theme, copying, where the focus goes. Everything else is links, forms and fragments that the server renders.
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
    const rows = [...document.querySelectorAll("[data-row]")].map((row) => row.querySelector("a, button")).filter(Boolean);
    if (!rows.length) return;
    const here = document.activeElement.closest("[data-row]");
    const at = here ? rows.findIndex((row) => here.contains(row)) : -1;
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

  // Browsers give pages no clipboard over plain http, but on this machine; the old way is to copy what is selected.
  async function copy(element) {
    try {
      await navigator.clipboard.writeText(element.textContent);
    } catch (error) {
      getSelection().selectAllChildren(element);
      if (!document.execCommand("copy")) return "The browser does not let it be copied; it is selected, press Ctrl+C";
    }
    return "Copied";
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) tell(await copy(document.getElementById(button.dataset.copy)));
  });

  // A version of the graph is a row of text and a node: clicking the node is clicking the row.
  document.addEventListener("click", (event) => {
    const node = event.target.closest("[data-version]");
    if (!node) return;
    const row = document.querySelector(`.commit[data-commit="${CSS.escape(node.dataset.version)}"] a`);
    if (row) row.click();
  });

  let told = 0;
  function tell(text) {
    clearTimeout(told);
    document.getElementById("told").textContent = text;
    told = setTimeout(() => { document.getElementById("told").textContent = ""; }, 4000 + 60 * text.length);
  }

  document.body.addEventListener("told", (event) => tell(event.detail.value));
  document.body.addEventListener("htmx:responseError", (event) => {
    tell(event.detail.xhr.responseText.slice(0, 300) || `The server said ${event.detail.xhr.status}`);
  });
  document.body.addEventListener("htmx:sendError", () => tell("The dashboard does not answer"));

  // What was asked for may be out of sight: go there, and let it be read out.
  document.body.addEventListener("htmx:afterSettle", (event) => {
    const place = event.detail.target;
    if (!place || !place.matches("#tool, #commit")) return;
    const head = place.querySelector("h2");
    if (head) { head.tabIndex = -1; head.focus({ preventScroll: true }); }
    place.scrollIntoView({ block: "start" });
  });

  // The overview is renewed every second: not under the hand of who is selecting something on it.
  document.body.addEventListener("htmx:sseBeforeMessage", (event) => {
    const chosen = getSelection();
    if (!chosen.isCollapsed && event.target.contains(chosen.anchorNode)) { event.preventDefault(); awaitNews(); }
  });

  // Figures that have grown old say so, whoever it is that does not answer.
  const lost = document.getElementById("lost");
  let news = 0;
  function awaitNews() {
    lost.hidden = true;
    clearTimeout(news);
    news = setTimeout(() => { lost.hidden = false; }, 5000);
  }
  if (lost) {
    awaitNews();
    document.body.addEventListener("htmx:sseMessage", awaitNews);
    document.body.addEventListener("htmx:sseError", () => { lost.hidden = false; });
  }
})();
