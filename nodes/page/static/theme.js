// Before the first paint, so that a dark page never flashes white. A classic script: modules run too late.
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem("theme");
  } catch {
    // storage may be forbidden: the system's choice holds
  }
  const dark = kept ? kept === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
