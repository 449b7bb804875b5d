// The least contrast of any text on the page with the ground behind it, as WCAG counts it; the text it belongs to.
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3]));
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  // Behind a label of a chart: the shape that is drawn under its middle, faded as it is drawn.
  const shape = (text) => {
    const box = text.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    let found = ground(text.closest(".plot"));
    for (const path of text.closest("svg").querySelectorAll(".mark-rect path")) {
      const b = path.getBoundingClientRect();
      if (b.x <= x && x <= b.right && b.y <= y && y <= b.bottom && getComputedStyle(path).fill !== "none") {
        const [r, g, blue, a] = rgba(getComputedStyle(path).fill);
        found = over([r, g, blue, a * Number(getComputedStyle(path).opacity)], found);
      }
    }
    return found;
  };
  let least = {ratio: 99, text: ""};
  const look = (colour, below, text) => {
    const [a, b] = [light(over(rgba(colour), below)), light(below)].sort((p, q) => q - p);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least.ratio) least = {ratio, text};
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (element.closest("script, style, .plot, option")) continue;
    look(getComputedStyle(element).color, ground(element), text.slice(0, 60));
  }
  for (const text of document.querySelectorAll(".plot svg text")) {
    if (text.textContent.trim()) look(getComputedStyle(text).fill, shape(text), `chart: ${text.textContent.slice(0, 60)}`);
  }
  return least;
}
