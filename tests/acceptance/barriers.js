/* What would keep somebody out of the page: the rules of WCAG 2.2 AA that a machine can judge, as far as it uses them. */
() => {
  const found = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const visible = (node) => node.checkVisibility() && node.getClientRects().length > 0;
  const described = (node) => `${node.tagName.toLowerCase()}${node.id && `#${node.id}`} "${node.textContent.trim().slice(0, 30)}"`;

  if (document.documentElement.lang !== "en") found.push("language: none");
  if (all("main").length !== 1 || all("h1").length !== 1) found.push("landmarks: not one main and one h1");
  const ids = all("[id]").map((node) => node.id);
  ids.filter((id, place) => ids.indexOf(id) !== place).forEach((id) => found.push(`id ${id}: twice`));
  for (const node of all("a[href], button, [tabindex='0']")) {
    const label = node.getAttribute("aria-label") || (node.getAttribute("aria-labelledby") && document.getElementById(node.getAttribute("aria-labelledby"))?.textContent) || node.textContent;
    if (visible(node) && !label.trim()) found.push(`name: none of ${described(node)}`);
    const box = node.getBoundingClientRect();
    if (node.tagName === "BUTTON" && visible(node) && (box.width < 24 || box.height < 24)) found.push(`size: ${described(node)}`);
  }
  all("[tabindex]").filter((node) => node.tabIndex > 0).forEach((node) => found.push(`order: ${described(node)}`));
  all("svg").filter((node) => !node.closest("[aria-hidden=true]")).forEach((node) => found.push(`graphic: ${node.getAttribute("class")}`));
  all("section").filter((node) => !node.getAttribute("aria-label") && !node.getAttribute("aria-labelledby")).forEach((node) => found.push(`section: ${described(node)}`));
  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1 && level) found.push(`heading: ${described(heading)} after h${level}`);
    level = next;
  }
  for (const table of all("table").filter((node) => node.rows.length)) {
    if (!table.caption) found.push(`caption: none of #${table.id}`);
    if ([...table.querySelectorAll("th")].some((cell) => !cell.scope)) found.push(`scope: #${table.id}`);
  }

  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((each) => (each / 255 <= 0.03928 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const color = channels(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  for (const node of all("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.textContent.trim());
    if (!own || !visible(node) || node.closest(".hidden, .skip, script, style, svg")) continue;
    const [one, other] = [channels(getComputedStyle(node).color), background(node)].map(luminance);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`contrast: ${ratio.toFixed(2)} of ${described(node)}`);
  }
  return found;
}
