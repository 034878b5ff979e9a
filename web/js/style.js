/** The panels' style sheet. Its colours are ComfyUI's own, so that it follows every theme. */

/** Puts the style sheet into the page, once. */
export function addStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("../css/panels.css", import.meta.url).href;
  document.head.append(link);
}
