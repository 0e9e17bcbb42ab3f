// Before the first paint: the theme that was chosen, else that of the system.
try {
  const chosen = localStorage.getItem("sagabus-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch (error) {
  // Storage may be forbidden; the system's theme it is.
}
