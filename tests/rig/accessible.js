// What automatic checks of accessibility look for (WCAG 2.2 A and AA, as far as a page can tell it of itself).
// Evaluates to a list of complaints.
(() => {
  const complaints = [];
  const shown = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const say = (what, element) => complaints.push(`${what}: ${element.outerHTML.slice(0, 120)}`);

  // Names
  if (!document.documentElement.lang) complaints.push("no language");
  if (!document.title) complaints.push("no title");
  if (document.querySelectorAll("main").length !== 1) complaints.push("not one main");
  if (document.querySelectorAll("h1").length !== 1) complaints.push("not one h1");
  const name = (element) => {
    const by = element.getAttribute("aria-labelledby");
    const text = by ? document.getElementById(by)?.textContent : element.getAttribute("aria-label") || element.textContent;
    return (text || [...(element.labels ?? [])].map((label) => label.textContent).join(" ")).trim();
  };
  for (const element of document.querySelectorAll("a[href], button, input, select, textarea, [tabindex='0'], section"))
    if (shown(element) && !name(element)) say("no name", element);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size !== ids.length) complaints.push(`an id twice: ${ids}`);
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) say("a level of headings is left out", heading);
    level = next;
  }
  for (const element of document.querySelectorAll("svg, img"))
    if (!element.getAttribute("alt") && element.getAttribute("aria-hidden") !== "true") say("a picture without words", element);
  for (const element of document.querySelectorAll("[tabindex]")) if (element.tabIndex > 0) say("an order of its own", element);
  for (const element of document.querySelectorAll("*"))
    for (const attribute of element.attributes) if (/^on|^style$/.test(attribute.name)) say("inline code", element);

  // Contrast
  const numbers = (colour) => {
    const context = numbers.context ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !shown(element) || element.closest("script, style, template")) continue;
    const [a, b] = [numbers(getComputedStyle(element).color), ground(element)].map(luminance).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}`, element);
  }

  // Targets
  for (const element of document.querySelectorAll("button, input")) {
    const box = element.getBoundingClientRect();
    if (shown(element) && Math.min(box.width, box.height) < 24) say(`small, ${box.width} × ${box.height}`, element);
  }
  return complaints;
})();
