// Draws a flow as SVG: boxes with a row for each exit, placed by elkjs in its worker. Lines that would
// make a thicket (to boxes that everything leads to, and back) are named in their row instead.

/* global ELK */

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 208;
const HEAD = 28;
const LINE = 15;
const ROW = 20;
const CROWD = 4;
const FAR = 0.56;

const elk = new ELK({ workerUrl: "/designer/vendor/elk-worker.min.js" });
const ruler = document.createElement("canvas").getContext("2d");

function make(tag, attributes = {}, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

function fits(text, width, font) {
  ruler.font = font;
  if (ruler.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 0 && ruler.measureText(`${text.slice(0, end)}…`).width > width) end -= 1;
  return `${text.slice(0, end).trimEnd()}…`;
}

function wrapped(text, width, most, font) {
  ruler.font = font;
  const lines = [];
  let rest = text;
  while (rest && lines.length < most - 1 && ruler.measureText(rest).width > width) {
    let end = rest.length;
    while (end > 1 && ruler.measureText(rest.slice(0, end)).width > width) end -= 1;
    const space = rest.lastIndexOf(" ", end);
    if (space > end / 2) end = space;
    lines.push(rest.slice(0, end).trimEnd());
    rest = rest.slice(end).trimStart();
  }
  if (rest) lines.push(fits(rest, width, font));
  return lines;
}

// --- what is drawn, before it has a place --------------------------------------------------------

function families() {
  const own = getComputedStyle(document.documentElement).fontFamily;
  return { small: `11.5px ${own}`, row: `12px ${own}`, bold: `600 13px ${own}` };
}

function boxes(flow) {
  const fonts = families();
  return flow.nodes.map((node) => {
    const text = wrapped(node.text, WIDTH - 24, 2, fonts.small);
    const head = HEAD + text.length * LINE + (text.length ? 6 : 0);
    return { ...node, lines: text, head, height: head + node.exits.length * ROW + (node.exits.length ? 3 : 0) };
  });
}

// Which exits become lines: those that show the way, and not those that would hide it.
function led(flow, all) {
  const depth = new Map([[flow.start, 0]]);
  const queue = [flow.start];
  const byName = new Map(flow.nodes.map((node) => [node.name, node]));
  const first = new Set();
  const visit = (name) => {
    for (const way of byName.get(name)?.exits ?? []) {
      if (depth.has(way.target) || !byName.has(way.target)) continue;
      depth.set(way.target, depth.get(name) + 1);
      first.add(`${name} ${way.name}`);
      queue.push(way.target);
    }
  };
  while (queue.length) visit(queue.shift());
  for (const node of flow.nodes) {
    if (depth.has(node.name)) continue;
    depth.set(node.name, 0);
    queue.push(node.name);
    while (queue.length) visit(queue.shift());
  }
  const crowd = new Map();
  for (const node of flow.nodes)
    for (const way of node.exits) crowd.set(way.target, (crowd.get(way.target) ?? 0) + 1);
  return (node, way) => {
    if (!byName.has(way.target)) return false;
    if (all || first.has(`${node.name} ${way.name}`)) return true;
    const forward = depth.get(way.target) > depth.get(node.name);
    return forward && crowd.get(way.target) < CROWD && !way.miss;
  };
}

async function placed(flow, all, rows) {
  const drawn = boxes(flow);
  const isLed = led(flow, all);
  const graph = {
    id: "flow",
    layoutOptions: {
      "elk.algorithm": "layered",
      "elk.direction": "RIGHT",
      "elk.edgeRouting": "ORTHOGONAL",
      "elk.spacing.nodeNode": "24",
      "elk.spacing.edgeEdge": "9",
      "elk.spacing.edgeNode": "16",
      "elk.layered.spacing.nodeNodeBetweenLayers": "40",
      "elk.layered.spacing.edgeNodeBetweenLayers": "18",
      "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
      "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
      "elk.layered.nodePlacement.favorStraightEdges": "true",
      "elk.layered.crossingMinimization.semiInteractive": "false",
      "elk.separateConnectedComponents": "true",
      ...(rows ? {
        "elk.layered.wrapping.strategy": "MULTI_EDGE",
        "elk.layered.wrapping.additionalEdgeSpacing": "12",
        "elk.aspectRatio": String(rows),
      } : {}),
    },
    children: drawn.map((box) => ({
      id: box.name,
      width: WIDTH,
      height: box.height,
      layoutOptions: {
        "elk.portConstraints": "FIXED_POS",
        ...(box.name === flow.start ? { "elk.layered.layering.layerConstraint": "FIRST" } : {}),
      },
      ports: [
        { id: `${box.name} `, x: 0, y: HEAD / 2, width: 0, height: 0, layoutOptions: { "elk.port.side": "WEST" } },
        ...box.exits.map((way, place) => ({
          id: `${box.name} ${way.name}`,
          x: WIDTH,
          y: box.head + place * ROW + ROW / 2,
          width: 0,
          height: 0,
          layoutOptions: { "elk.port.side": "EAST" },
        })),
      ],
    })),
    edges: drawn.flatMap((box) => box.exits.filter((way) => isLed(box, way)).map((way) => ({
      id: `line ${box.name} ${way.name}`,
      sources: [`${box.name} ${way.name}`],
      targets: [`${way.target} `],
    }))),
  };
  const result = await elk.layout(graph);
  const spots = new Map(result.children.map((child) => [child.id, child]));
  const lines = new Map(result.edges.map((edge) => [edge.id, edge.sections?.[0]]));
  return { drawn, spots, lines, width: result.width, height: result.height };
}

function path(section) {
  const points = [section.startPoint, ...(section.bendPoints ?? []), section.endPoint];
  const parts = [`M${points[0].x},${points[0].y}`];
  for (let at = 1; at < points.length - 1; at += 1) {
    const [before, here, after] = [points[at - 1], points[at], points[at + 1]];
    const reach = (a, b) => Math.min(8, Math.hypot(a.x - b.x, a.y - b.y) / 2);
    const toward = (to) => {
      const far = Math.hypot(to.x - here.x, to.y - here.y) || 1;
      const near = reach(here, to) / far;
      return `${here.x + (to.x - here.x) * near},${here.y + (to.y - here.y) * near}`;
    };
    parts.push(`L${toward(before)}`, `Q${here.x},${here.y} ${toward(after)}`);
  }
  const last = points[points.length - 1];
  parts.push(`L${last.x},${last.y}`);
  return parts.join(" ");
}

// Arrows are attributes, since a stylesheet's references are its own.
function point(line) {
  const kind = ["taken", "miss"].find((name) => line.classList.contains(name)) ?? "way";
  line.setAttribute("marker-end", `url(#arrow-${kind})`);
}

// --- the canvas ----------------------------------------------------------------------------------

export class Canvas {
  constructor(svg, chosen) {
    this.svg = svg;
    this.chosen = chosen;
    this.view = { x: 0, y: 0, scale: 1 };
    this.size = { width: 1, height: 1 };
    this.plan = null;
    this.groups = new Map();
    this.ways = new Map();
    this.turn = 0;
    this.rows = 0;
    this.world = make("g", { class: "world" });
    const arrows = ["way", "miss", "taken"].map((name) => {
      const marker = make("marker", {
        id: `arrow-${name}`, class: `arrow ${name}`, viewBox: "0 0 8 8", refX: 7, refY: 4,
        markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto",
      });
      marker.append(make("path", { d: "M0,0.5 L7.5,4 L0,7.5 z" }));
      return marker;
    });
    const defs = make("defs");
    defs.append(...arrows);
    svg.replaceChildren(defs, this.world);
    this.listen();
  }

  // Draw a flow. The view stays where it is, unless another flow is shown.
  async draw(flow, { all = false, keep = false } = {}) {
    this.turn += 1;
    const turn = this.turn;
    const plan = await this.best(flow, all, keep);
    if (turn !== this.turn) return false;
    this.plan = plan;
    this.flow = flow;
    this.groups.clear();
    this.ways.clear();
    const lines = make("g");
    const shapes = make("g");
    for (const box of plan.drawn) {
      for (const way of box.exits) {
        const section = plan.lines.get(`line ${box.name} ${way.name}`);
        if (!section) continue;
        const line = make("path", { d: path(section), class: way.miss ? "line miss" : "line" });
        point(line);
        this.ways.set(`${box.name} ${way.name}`, line);
        lines.append(line);
      }
      shapes.append(this.box(box, plan));
    }
    this.world.replaceChildren(lines, shapes);
    this.size = { width: plan.width, height: plan.height };
    if (!keep) this.fit();
    return true;
  }

  // In one row, or in several where that leaves everything much larger: long flows fill the room.
  async best(flow, all, keep) {
    const { width, height } = this.svg.getBoundingClientRect();
    const room = (plan) => Math.min(1, width / plan.width, (height - 88) / plan.height);
    const aspect = width && height > 120 ? Math.min(2.5, Math.max(0.6, width / (height - 80))) : 1.2;
    if (keep) return placed(flow, all, this.rows);
    const one = await placed(flow, all, 0);
    this.rows = 0;
    if (room(one) > 0.45) return one;
    const several = await placed(flow, all, aspect);
    if (room(several) < 1.2 * room(one)) return one;
    this.rows = aspect;
    return several;
  }

  clear() {
    this.turn += 1;
    this.plan = null;
    this.flow = null;
    this.groups.clear();
    this.ways.clear();
    this.world.replaceChildren();
  }

  box(box, plan) {
    const spot = plan.spots.get(box.name);
    const fonts = families();
    const start = box.name === this.flow.start;
    const group = make("g", {
      class: `node ${box.sort}${start ? " start" : ""}`, transform: `translate(${spot.x},${spot.y})`,
      tabindex: 0, role: "button", "aria-label": `${box.name}, ${box.kind}`,
    });
    group.dataset.name = box.name;
    group.append(
      make("title", {}, box.text ? `${box.name}: ${box.text}` : box.name),
      make("rect", { class: "halo", x: -6, y: -6, width: WIDTH + 12, height: box.height + 12, rx: 13 }),
      make("rect", { class: "body", width: WIDTH, height: box.height, rx: 8 }),
      make("rect", { class: "stripe", width: 5, height: box.height, rx: 2.5 }),
      make("text", { class: "name", x: 14, y: 19 }, fits(box.name, WIDTH - 90, fonts.bold)),
      make("text", { class: "kind", x: WIDTH - 12, y: 19 }, box.kind),
    );
    box.lines.forEach((line, place) => {
      group.append(make("text", { class: "said", x: 14, y: HEAD + 11 + place * LINE }, line));
    });
    box.exits.forEach((way, place) => group.append(this.row(box, way, place, plan, fonts)));
    const big = this.name(box, fonts);
    group.append(big, make("circle", { class: "flag", cx: WIDTH, cy: 0, r: 9 }), make("text", { class: "entered", x: 0, y: -7 }));
    group.addEventListener("click", () => this.chosen(box.name));
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.chosen(box.name);
    });
    this.groups.set(box.name, group);
    return group;
  }

  // The name alone, as large as it fits, for when the drawing is seen from afar.
  name(box, fonts) {
    const words = box.name.split(/[_-]/);
    const half = Math.ceil(words.length / 2);
    const two = words.length > 1 && box.height > 62 && box.name.length > 11;
    const parts = two ? [words.slice(0, half).join(" "), words.slice(half).join(" ")] : [words.join(" ")];
    ruler.font = fonts.bold.replace("13px", "27px");
    const widest = Math.max(...parts.map((part) => ruler.measureText(part).width));
    const size = Math.max(13, Math.min(27, Math.floor((27 * (WIDTH - 24)) / widest)));
    const big = make("text", { class: "big" });
    big.style.fontSize = `${size}px`;
    parts.forEach((part, place) => {
      const y = box.height / 2 + size * 0.36 + (place - (parts.length - 1) / 2) * size * 1.12;
      big.append(make("tspan", { x: WIDTH / 2 + 2, y }, part));
    });
    return big;
  }

  row(box, way, place, plan, fonts) {
    const top = box.head + place * ROW;
    const middle = top + ROW / 2 + 4;
    const row = make("g", { class: way.miss ? "row miss" : "row" });
    row.dataset.way = way.name;
    row.append(make("path", { class: "rule", d: `M6,${top} H${WIDTH - 1}` }));
    let right = WIDTH - 12;
    if (plan.lines.has(`line ${box.name} ${way.name}`)) {
      row.append(make("circle", { class: "port", cx: WIDTH, cy: top + ROW / 2, r: 3.2 }));
    } else {
      const name = fits(way.target, 80, fonts.small);
      ruler.font = fonts.small;
      const wide = ruler.measureText(name).width + 26;
      right = WIDTH - 8 - wide;
      const target = this.flow.nodes.find((node) => node.name === way.target);
      const chip = make("g", { class: `chip ${target?.sort ?? ""}`, tabindex: -1 });
      chip.append(
        make("rect", { x: right, y: top + 2.5, width: wide, height: ROW - 5, rx: (ROW - 5) / 2 }),
        make("text", { x: right + 8, y: middle }, `→ ${name}`),
      );
      chip.addEventListener("click", (event) => { event.stopPropagation(); this.chosen(way.target); this.show(way.target); });
      row.append(chip);
      right -= 8;
    }
    row.append(
      make("text", { class: "way", x: 14, y: middle }, fits(way.label, right - 46, fonts.row)),
      make("text", { class: "number", x: right, y: middle }),
    );
    return row;
  }

  // --- marks -------------------------------------------------------------------------------------

  choose(name) {
    for (const [own, group] of this.groups) group.classList.toggle("chosen", own === name);
  }

  flag(findings) {
    for (const group of this.groups.values()) group.classList.remove("warned", "wrong");
    for (const one of findings) {
      const group = this.groups.get(one.node);
      if (group) group.classList.add(one.code.startsWith("E") ? "wrong" : "warned");
    }
  }

  walk(here, passed, taken) {
    const nodes = new Set(passed);
    for (const [name, group] of this.groups) {
      group.classList.toggle("here", name === here);
      group.classList.toggle("passed", nodes.has(name));
    }
    const ways = new Set(taken);
    for (const [key, line] of this.ways) {
      line.classList.toggle("taken", ways.has(key));
      point(line);
    }
    for (const key of ways) {
      const line = this.ways.get(key);
      if (line) line.parentNode.append(line);
    }
  }

  traffic(counts) {
    this.svg.classList.toggle("counted", Boolean(counts));
    const most = counts ? Math.max(1, ...Object.values(counts.nodes)) : 1;
    for (const [name, group] of this.groups) {
      const entered = counts?.nodes[name] ?? 0;
      const lost = counts?.lost[name] ?? 0;
      group.querySelector(".entered").textContent = counts ? `${entered}${lost ? ` · −${lost}` : ""}` : "";
      group.classList.toggle("unused", Boolean(counts) && !entered);
      for (const row of group.querySelectorAll(".row")) {
        const number = counts?.exits[name]?.[row.dataset.way] ?? 0;
        row.querySelector(".number").textContent = counts ? String(number) : "";
        const line = this.ways.get(`${name} ${row.dataset.way}`);
        if (line) line.style.strokeWidth = counts ? String(0.8 + 6 * (number / most)) : "";
      }
    }
  }

  // --- the view ----------------------------------------------------------------------------------

  place() {
    const { x, y, scale } = this.view;
    this.world.setAttribute("transform", `translate(${x},${y}) scale(${scale})`);
    this.svg.classList.toggle("far", scale < FAR);
  }

  fit() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width || !this.plan) return;
    const [side, top, bottom] = [24, 24, 64];
    const scale = Math.min(1, (width - 2 * side) / this.size.width, (height - top - bottom) / this.size.height);
    this.view = {
      scale,
      x: (width - this.size.width * scale) / 2,
      y: top + (height - top - bottom - this.size.height * scale) / 2,
    };
    this.place();
  }

  zoom(factor, at) {
    const area = this.svg.getBoundingClientRect();
    const point = at ?? { x: area.width / 2, y: area.height / 2 };
    const scale = Math.min(2.5, Math.max(0.08, this.view.scale * factor));
    const by = scale / this.view.scale;
    this.view = { scale, x: point.x - (point.x - this.view.x) * by, y: point.y - (point.y - this.view.y) * by };
    this.place();
  }

  move(x, y) {
    this.view.x += x;
    this.view.y += y;
    this.place();
  }

  // Bring a node into view, no further than needed.
  show(name, near = false) {
    const spot = this.plan?.spots.get(name);
    if (!spot) return;
    if (near && this.view.scale < 0.7) this.view.scale = 0.85;
    const { width, height } = this.svg.getBoundingClientRect();
    const { scale } = this.view;
    const left = this.view.x + spot.x * scale;
    const top = this.view.y + spot.y * scale;
    const inside = left > 12 && top > 12 && left + spot.width * scale < width - 12 && top + spot.height * scale < height - 70;
    if (inside) { this.place(); return; }
    this.view.x = width / 2 - (spot.x + spot.width / 2) * scale;
    this.view.y = height / 2 - (spot.y + spot.height / 2) * scale;
    this.place();
  }

  listen() {
    const svg = this.svg;
    svg.addEventListener("wheel", (event) => {
      event.preventDefault();
      const area = svg.getBoundingClientRect();
      this.zoom(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) / 300), { x: event.clientX - area.left, y: event.clientY - area.top });
    }, { passive: false });
    let last = null;
    svg.addEventListener("pointerdown", (event) => { if (event.button === 0) last = event; });
    svg.addEventListener("pointermove", (event) => {
      if (!last) return;
      if (!svg.hasPointerCapture(event.pointerId)) {
        if (Math.hypot(event.clientX - last.clientX, event.clientY - last.clientY) < 4) return;
        svg.setPointerCapture(event.pointerId);
      }
      this.move(event.clientX - last.clientX, event.clientY - last.clientY);
      last = event;
    });
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => { last = null; });
    const keys = {
      ArrowLeft: () => this.move(80, 0), ArrowRight: () => this.move(-80, 0),
      ArrowUp: () => this.move(0, 80), ArrowDown: () => this.move(0, -80),
      "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit(),
      Escape: () => this.chosen(""),
    };
    svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}
