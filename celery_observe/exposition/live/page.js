"use strict";
(() => {
  const EVERY = 2000, OUTCOMES = ["succeeded", "retried", "failed", "other"];
  const $ = (id) => document.getElementById(id);
  const VERSION = document.querySelector("meta[name=version]").content;
  let view = null, paused = false, timer = 0, failures = 0, answered = 0, renewed = 0, cursor = null;

  // -- how things are written

  const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const whole = (value) => (value == null ? "–" : number.format(Math.round(value)));
  function duration(seconds) {
    if (seconds == null) return "–";
    if (seconds === 0) return "0 s";
    if (seconds < 0.0995) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
    if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
    if (seconds < 99.5) return `${number.format(seconds)} s`;
    if (seconds < 5970) return `${Math.round(seconds / 60)} min`;
    return seconds < 360000 ? `${number.format(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
  }
  function rate(perSecond) {
    if (perSecond == null) return "–";
    if (perSecond === 0) return "0 /s";
    return perSecond < 0.1 ? `${number.format(perSecond * 60)} /min` : `${number.format(perSecond)} /s`;
  }
  const percent = (part, all) => (all ? `${number.format((100 * part) / all)} %` : "–");
  const sum = (values) => values.reduce((total, value) => total + (value || 0), 0);
  const words = (text) => text.replaceAll("_", " ");
  const minutes = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);

  // -- the document: elements are kept and changed, so that neither focus nor a reader's place is lost

  function text(node, value) {
    if (node.textContent !== value) node.textContent = value;
  }
  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
    node.append(...children.filter((child) => child != null));
    return node;
  }
  /** Make the children those of `wanted`, pairs of a key and a node; nodes that are the same stay. */
  function fill(parent, wanted) {
    const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
    let place = parent.firstElementChild;
    for (const [key, node] of wanted) {
      node.dataset.key = key;
      let kept = old.get(key);
      old.delete(key);
      if (!kept) kept = node;
      else if (!kept.isEqualNode(node)) renew(kept, node);
      if (kept === place) place = place.nextElementSibling;
      else parent.insertBefore(kept, place);
    }
    for (const child of old.values()) child.remove();
  }
  /** Bring an element up to date: its attributes, and its children one by one. */
  function renew(kept, fresh) {
    for (const { name } of [...kept.attributes]) if (!fresh.hasAttribute(name)) kept.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (kept.getAttribute(name) !== value) kept.setAttribute(name, value);
    const before = [...kept.childNodes], after = [...fresh.childNodes];
    after.forEach((node, place) => {
      const present = before[place];
      if (!present) kept.append(node);
      else if (present.nodeType !== node.nodeType || present.nodeName !== node.nodeName) present.replaceWith(node);
      else if (node.nodeType === Node.TEXT_NODE) text(present, node.textContent);
      else renew(present, node);
    });
    before.slice(after.length).forEach((node) => node.remove());
  }
  function meter(share, kind = "") {
    const svg = draw("svg", { class: `meter ${kind}`, "aria-hidden": "true" });
    svg.append(draw("rect", { width: `${Math.round(100 * Math.min(1, Math.max(0, share)))}%`, height: "100%" }));
    return svg;
  }
  const amount = (label) => make("span", { class: "amount" }, label);
  /** A name that may be broken where it has a dot, an @ or a dash. */
  const breakable = (name) => name.split(/(?<=[.@_-])/).flatMap((part, place) => (place ? [make("wbr"), part] : [part]));
  const badge = (label, kind) => make("span", { class: `badge ${kind}` }, label);
  const sub = (label) => (label ? make("span", { class: "sub" }, label) : null);

  function table(id, caption, columns, rows, empty) {
    const node = $(id);
    text($(`${id}-empty`), rows.length ? "" : empty);
    if (!rows.length) return void node.replaceChildren();
    if (!node.tHead) {
      const heads = columns.map(([label, kind]) => make("th", { scope: "col", class: kind }, label));
      node.append(make("caption", { class: "hidden" }, caption), make("thead", {}, make("tr", {}, ...heads)), make("tbody"));
    }
    fill(node.tBodies[0], rows.map(([key, first, ...cells]) => [
      key,
      make("tr", {}, make("th", { scope: "row" }, ...[].concat(first)),
        ...cells.map((cell, place) => make("td", { class: columns[place + 1][1] }, ...[].concat(cell)))),
    ]));
  }
  function note(id, shown, what) {
    const more = view.left_out[id];
    text($(`${id}-note`), [what, more ? `${whole(more)} more not shown` : ""].filter(Boolean).join(" · "));
  }
  function named(name, path) {
    if (!view.flower || !path) return make("span", { class: "name" }, ...breakable(name));
    const href = view.flower.replace(/\/$/, "") + path;
    return make("a", { class: "name", href, rel: "noreferrer", title: "Look at it in Flower" }, ...breakable(name));
  }
  const flowerTasks = (task, state) => `/tasks?name=${encodeURIComponent(task)}${state ? `&state=${state}` : ""}`;
  const flowerWorker = (worker) => `/worker/${encodeURIComponent(worker)}`;
  const keyed = (row, name) => `${row.broker || ""}/${name}`;
  const ofBroker = (row) => row.broker || "";

  // -- the parts of the page

  function header() {
    text($("subject"), view.brokers.join(", ") || "what instrumented processes report");
    const state = $("state");
    const [label, kind] = paused ? ["Paused", ""] : view.ready ? ["Live", "good"] : ["Not ready", "bad"];
    text(state, label);
    state.className = `pill ${kind}`;
    const flower = $("flower");
    flower.hidden = !view.flower;
    if (view.flower) flower.href = view.flower;
    document.title = `${view.ready ? "" : "✕ "}${view.concerns.length + view.alerts.length ? `(${view.concerns.length + view.alerts.length}) ` : ""}celery-observe`;
  }
  function banner(message, reasons, kind) {
    const node = $("banner");
    const said = [message, ...(reasons || [])].join("\n");
    if (node.dataset.said === said) return;
    node.dataset.said = said;
    node.replaceChildren();
    if (message) node.append(make("div", { class: `banner ${kind}` }, message, make("ul", {}, ...(reasons || []).map((each) => make("li", {}, each)))));
  }

  function tile(key, title, value, unit, below, { kind = "", line, color = "" } = {}) {
    const node = make("div", { class: `tile ${kind}` }, make("h2", {}, title),
      make("strong", {}, value, unit ? make("small", {}, unit) : null), make("p", {}, below));
    node.dataset.key = key;
    if (line) node.append(spark(line, color));
    return [key, node];
  }
  function tiles() {
    const past = view.history, ended = sum(Object.values(view.outcomes)), failed = view.outcomes.failed || 0;
    const done = past.ago.map((_, place) => (past.succeeded[place] == null ? null : sum(OUTCOMES.map((each) => past[each][place]))));
    const stalled = view.workers.filter((worker) => worker.stalled).length, lately = view.observer.unobserved_lately || 0;
    const now = recent(done);
    const [value, unit] = rate(now).split(" ");
    const window = minutes(view.window), lag = view.observer.lag;
    const down = view.now.workers_known - view.now.workers_up;
    fill($("tiles"), [
      tile("throughput", "Throughput", value, unit, `${whole(ended)} ended in ${window}`, { line: done, color: "is-succeeded" }),
      tile("failed", "Failed", ended ? number.format((100 * failed) / ended) : "–", ended ? "%" : "", `${whole(failed)} in ${window}`,
        { line: past.failed, color: "is-failed", kind: ended > 20 && failed / ended > 0.1 ? "alarm" : "" }),
      tile("running", "Running", whole(view.now.running), view.now.slots == null ? "" : `of ${whole(view.now.slots)} slots`,
        view.now.running == null ? "not known" : view.now.slots ? `${percent(view.now.running, view.now.slots)} busy` : "attempts now", { line: past.running }),
      tile("waiting", "Waiting", whole(view.now.waiting), "", view.now.oldest == null ? (view.now.waiting == null ? "no queue is known" : "messages") : view.now.oldest ? `oldest ${duration(view.now.oldest)}` : "none is old",
        { line: past.waiting, color: "is-waiting" }),
      tile("workers", "Workers", view.now.workers_known ? whole(view.now.workers_up) : "–", view.now.workers_known ? `of ${whole(view.now.workers_known)} up` : "", stalled ? `${stalled} stalled` : down ? `${whole(down)} gone` : view.now.workers_known ? "none stalled" : "none heard of",
        { line: past.workers, color: "is-calm", kind: stalled ? "alarm" : down ? "caution" : "" }),
      tile("lost", "Not observed", whole(lately), lately === 1 ? "task" : "tasks", lag == null ? `in ${window}` : lag < 0.001 ? "events read at once" : `read after ${duration(lag)}`,
        { line: past.lag, color: "is-calm", kind: lately ? "caution" : "" }),
    ]);
  }
  /** The mean of the last three points that are known. */
  function recent(values) {
    const known = values.slice(-3).filter((value) => value != null);
    return known.length ? sum(known) / known.length : null;
  }

  function attention() {
    const rows = [];
    for (const alert of view.alerts) {
      const about = Object.entries(alert.labels).map(([name, value]) => `${name} ${value}`).join(", ");
      const path = alert.uuid ? `/task/${encodeURIComponent(alert.uuid)}` : alert.labels.worker ? flowerWorker(alert.labels.worker) : alert.labels.task ? flowerTasks(alert.labels.task) : "";
      const said = [about, alert.count > 1 ? `${whole(alert.count)} times` : "", `for ${duration(alert.age)}`].filter(Boolean).join(" · ");
      rows.push([`alert/${alert.rule}/${about}`, alert.severity, alert.rule, said, path, "alert"]);
    }
    for (const concern of view.concerns) {
      const path = concern.about === "worker" ? flowerWorker(concern.name) : "";
      rows.push([`concern/${concern.about}/${concern.name}/${concern.text}`, concern.severity, concern.name, concern.text, path, concern.about]);
    }
    fill($("attention"), rows.map(([key, severity, name, said, path, about]) => [key, make("li", {},
      badge(severity, severity === "critical" || severity === "error" ? "bad" : "warn"),
      make("div", {}, make("span", { class: "what" }, named(name, path)), make("span", { class: "sub" }, `${about}: ${said}`)))]));
    const well = view.ready && view.now.workers_known;
    text($("attention-empty"), rows.length ? "" : well ? "Nothing: workers consume, and no event was lost." : view.ready ? "Nothing yet." : "The observer itself: see above.");
    $("attention-empty").classList.toggle("ok", Boolean(well));
    text($("attention-note"), view.alerting ? "alerts that fire first" : "");
  }

  function queues() {
    const rows = view.queues.filter((queue) => queue.dead == null || queue.waiting != null || queue.dead > 0);
    const several = view.brokers.length > 1;
    table("queues", "Queues", [["Queue"], ["Waiting"], ["Oldest"], ["In flight", "wide"], ["Held for ETA", "wide"], ["Slots"], ["Needed", "wide"]],
      rows.map((queue) => {
        const priorities = Object.entries(queue.priorities || {}).filter(([, count]) => count > 0);
        const chips = priorities.map(([priority, count]) => make("span", { class: "prio" }, `priority ${priority || "–"}: ${whole(count)}`));
        const alone = queue.waiting > 0 && queue.consumers === 0;
        const short = queue.desired != null && queue.slots != null && queue.desired > queue.slots;
        const dead = queue.dead != null;
        return [keyed(queue, queue.queue),
          [named(queue.queue), alone ? badge("no consumer", "bad") : null, dead ? badge("dead letters", "warn") : null, several ? sub(ofBroker(queue)) : null, chips.length ? make("span", { class: "sub" }, ...chips) : null].filter(Boolean),
          whole(dead ? queue.dead : queue.waiting), queue.waiting ? duration(queue.oldest) : "–", whole(queue.in_flight), whole(queue.scheduled),
          whole(queue.slots), make("span", short ? { class: "hot" } : {}, whole(queue.desired))];
      }),
      view.brokers.length ? "No queue is known yet." : "Queues are asked by an exporter, which reads the broker.");
    note("queues", rows.length);
  }

  function workers() {
    table("workers", "Workers", [["Worker"], ["Busy"], ["Held", "wide"], ["Accepts"], ["Heartbeat", "wide"]],
      view.workers.map((worker) => {
        const state = worker.up === false ? badge("gone", "bad") : worker.stalled ? badge("stalled", "bad") : worker.connected === false ? badge("not connected", "warn") : null;
        const share = worker.slots ? (worker.active || 0) / worker.slots : 0;
        const about = [ofBroker(worker), worker.pool, worker.version ? `Celery ${worker.version}` : "", worker.load == null ? "" : `load ${number.format(worker.load)}`, worker.unobserved ? `${whole(worker.unobserved)} tasks not observed` : ""];
        const busy = worker.up === false ? "–" : worker.slots == null ? whole(worker.active) : `${whole(worker.active || 0)} / ${whole(worker.slots)}`;
        return [keyed(worker, worker.worker), [named(worker.worker, flowerWorker(worker.worker)), state, sub(about.filter(Boolean).join(" · "))].filter(Boolean),
          worker.slots && worker.up !== false ? [meter(share, share >= 1 ? "is-full" : ""), amount(busy)] : busy,
          whole(worker.reserved), rate(worker.rate), worker.heartbeat == null ? "–" : `${duration(worker.heartbeat)} ago`];
      }),
      view.ready ? "No worker has been heard of." : "Not known.");
    note("workers", view.workers.length, view.now.workers_known ? `${whole(view.now.workers_up)} of ${whole(view.now.workers_known)} up` : "");
  }

  function slowest() {
    const most = Math.max(...view.slowest.map((task) => task.p95), 0);
    table("slowest", "Slowest tasks", [["Task"], ["95 % within"], ["Half within", "wide"], ["Runs"], ["Now", "wide"]],
      view.slowest.map((task) => [keyed(task, task.task), [named(task.task, flowerTasks(task.task)), view.brokers.length > 1 ? sub(ofBroker(task)) : null].filter(Boolean),
        [meter(most ? task.p95 / most : 0), amount(duration(task.p95))], duration(task.median), whole(task.runs),
        task.running ? whole(task.running) + (task.oldest >= 1 ? ` for ${duration(task.oldest)}` : "") : "–"]),
      "No attempt has ended yet.");
    note("slowest", view.slowest.length, view.slowest.length ? `last ${minutes(view.window)}` : "");
  }

  function failing() {
    table("failing", "Failing tasks", [["Task"], ["Failed"], ["Of all"], ["Retried", "wide"]],
      view.failing.map((task) => {
        const reason = [task.exception, task.cause && task.cause !== "exception" ? words(task.cause) : ""].filter(Boolean).join(" · ");
        return [keyed(task, task.task), [named(task.task, flowerTasks(task.task, "FAILURE")), sub([ofBroker(task), reason].filter(Boolean).join(" · "))].filter(Boolean),
          whole(task.failed), [meter(task.ended ? task.failed / task.ended : 0, "is-failed"), amount(percent(task.failed, task.ended))], whole(task.retried || 0)];
      }),
      sum(Object.values(view.outcomes)) ? "None failed." : "No attempt has ended yet.");
    note("failing", view.failing.length, view.failing.length ? `last ${minutes(view.window)}` : "");
  }

  function workflows() {
    table("workflows", "Active workflows", [["Began with"], ["Active"], ["Open tasks"], ["Groups", "wide"], ["Chords waiting", "wide"]],
      view.workflows.map((root) => [keyed(root, root.root),
        [named(root.root, flowerTasks(root.root)), ...Object.entries(root.chords_stalled || {}).map(([reason]) => badge(`stalled: ${words(reason)}`, "warn")), view.brokers.length > 1 ? sub(ofBroker(root)) : null].filter(Boolean),
        whole(root.active), whole(root.open || 0),
        root.group_tasks ? [meter(root.group_ended / root.group_tasks, "is-done"), amount(`${whole(root.group_ended || 0)} / ${whole(root.group_tasks)}`)] : "–",
        whole(root.chords_waiting || 0)]),
      "None is under way.");
    note("workflows", view.workflows.length);
  }

  function observer() {
    const self = view.observer;
    const told = [
      ["Events read", rate(self.events_rate || 0)],
      ["Lag", duration(self.lag)],
      ["Tasks not observed", whole(self.unobserved || 0)],
      ["Without a stream", duration(self.gap || 0)],
      ["Reconnects", whole(self.reconnects || 0)],
      ["Malformed", whole(self.malformed || 0)],
      ["Let go of, to stay small", whole((self.evicted || 0) + (self.overflowed || 0))],
      ["Tasks in memory", whole(self.tracked || 0)],
    ];
    fill($("observer"), told.map(([name, value]) => [name, make("div", {}, make("dt", {}, name), make("dd", {}, value))]));
    fill($("plugins"), (self.plugins || []).map((plugin) => [`${plugin.broker || ""}/${plugin.plugin}`,
      make("li", { class: plugin.up ? null : "down" }, [plugin.broker, plugin.plugin].filter(Boolean).join(" "), make("span", plugin.up ? { class: "hidden" } : {}, plugin.up ? " works" : `: ${plugin.problem || "failed"}`))]));
    text($("observer-note"), `since ${duration(view.uptime)}`);
  }

  // -- charts

  const SVG = "http://www.w3.org/2000/svg";
  function draw(tag, attributes, label) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (label != null) node.textContent = label;
    return node;
  }
  function spark(values, color) {
    const known = values.slice(-75), most = Math.max(...known.filter((value) => value != null), 0) || 1;
    const step = 100 / Math.max(1, known.length - 1);
    let path = "", pen = "M";
    known.forEach((value, place) => {
      if (value == null) return void (pen = "M");
      path += `${pen}${(place * step).toFixed(1)} ${(38 - (34 * value) / most).toFixed(1)}`;
      pen = "L";
    });
    const svg = draw("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true", class: color });
    const whole = path && !path.slice(1).includes("M") ? `${path}L100 40L${path.slice(1, path.indexOf(" "))} 40Z` : "";
    svg.append(draw("path", { d: whole, class: "shade" }), draw("path", { d: path, class: "spark", "vector-effect": "non-scaling-stroke" }));
    return svg;
  }
  function ceiling(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].map((each) => each * power).find((each) => each >= value);
  }
  /** The runs of places at which something is known, or is not. */
  function stretches(values, known) {
    const found = [];
    values.forEach((value, place) => {
      if ((value != null) !== known) return;
      const last = found.at(-1);
      if (last && last.at(-1) === place - 1) last.push(place);
      else found.push([place]);
    });
    return found;
  }
  let scale = null;
  function chart() {
    const past = view.history, box = $("chart"), svg = box.querySelector("svg");
    const width = box.clientWidth, height = box.clientHeight, left = 34, bottom = height - 22, top = 8;
    const span = Math.min(600, Math.max(60, ...past.ago.slice(0, 1)));
    const stacked = past.ago.map((_, place) => sum(OUTCOMES.map((each) => past[each][place])));
    const most = ceiling(Math.max(0.5, ...stacked, ...past.published.filter((value) => value != null)));
    const x = (place) => left + (width - left) * Math.max(0, 1 - past.ago[place] / span);
    const y = (value) => bottom - (bottom - top) * (value / most);
    scale = { x, span, left, width, top, bottom };
    const nodes = [];
    for (const share of [0, 0.5, 1]) {
      const line = Math.round(y(most * share)) + 0.5;
      nodes.push(draw("line", { class: "grid", x1: left, x2: width, y1: line, y2: line }));
      nodes.push(draw("text", { x: left - 7, y: line + 4, "text-anchor": "end" }, fine.format(most * share)));
    }
    for (const ago of [span, span / 2, 0]) {
      const anchor = ago === span ? "start" : ago ? "middle" : "end";
      nodes.push(draw("text", { x: left + (width - left) * (1 - ago / span), y: height - 4, "text-anchor": anchor }, ago ? `${minutes(ago)} ago` : "now"));
    }
    for (const run of stretches(past.succeeded, false)) {
      const from = x(Math.max(0, run[0] - 1)), to = x(run.at(-1));
      nodes.push(draw("rect", { class: "gap", x: from, y: top, width: Math.max(1, to - from), height: bottom - top }));
    }
    const base = past.ago.map(() => 0);
    for (const outcome of OUTCOMES) {
      for (const run of stretches(past[outcome], true)) {
        const upper = run.map((place) => `${x(place).toFixed(1)} ${y(base[place] + past[outcome][place]).toFixed(1)}`);
        const lower = run.map((place) => `${x(place).toFixed(1)} ${y(base[place]).toFixed(1)}`).reverse();
        nodes.push(draw("path", { class: outcome, d: `M${[...upper, ...lower].join("L")}Z` }));
      }
      past[outcome].forEach((value, place) => (base[place] += value || 0));
    }
    if (past.published.some(Boolean)) {
      for (const run of stretches(past.published, true)) {
        nodes.push(draw("path", { class: "published", d: `M${run.map((place) => `${x(place).toFixed(1)} ${y(past.published[place]).toFixed(1)}`).join("L")}` }));
      }
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(...nodes);
    text($("chart-empty"), hint());
    fill($("legend"), ["succeeded", "retried", "failed", "other", "published"].map((name) => [name,
      make("li", {}, make("i", { class: `swatch-${name}`, "aria-hidden": "true" }), name, make("b", {}, rate(recent(past[name]))))]));
    if (cursor != null) point(cursor);
    else text($("readout"), "");
  }
  /** What a newcomer should do, where there is nothing to see. */
  function hint() {
    if (view.history.succeeded.some((value) => value)) return "";
    if (sum(Object.values(view.outcomes)) || !view.ready) return "";
    if (!view.now.workers_known) return view.brokers.length ? "No worker has been heard of yet. Is this the broker that they use?" : "No process has reported yet.";
    return view.brokers.length && !view.observer.unobserved ? "No task has ended yet. Workers tell of tasks when they run with -E, or this with --enable-events." : "No task has ended yet.";
  }
  function point(ago) {
    const past = view.history, svg = $("chart").querySelector("svg");
    svg.querySelector(".cursor")?.remove();
    cursor = ago;
    if (ago == null || !past.ago.length) return void text($("readout"), "");
    const place = past.ago.reduce((best, each, index) => (Math.abs(each - ago) < Math.abs(past.ago[best] - ago) ? index : best), 0);
    const at = scale.x(place);
    svg.append(draw("line", { class: "cursor", x1: at, x2: at, y1: scale.top, y2: scale.bottom }));
    const said = past.succeeded[place] == null ? ["not observed"] : [...OUTCOMES, "published"].filter((name) => past[name][place]).map((name) => `${name} ${rate(past[name][place])}`);
    text($("readout"), `${minutes(past.ago[place])} ago: ${said.join(", ") || "nothing"}`);
  }
  $("chart").addEventListener("pointermove", (event) => {
    if (!view) return;
    const share = (event.clientX - $("chart").getBoundingClientRect().left - scale.left) / (scale.width - scale.left);
    point(scale.span * (1 - Math.min(1, Math.max(0, share))));
  });
  $("chart").addEventListener("pointerleave", () => view && point(null));
  $("chart").addEventListener("blur", () => view && point(null));
  $("chart").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 4, ArrowRight: -4, Home: 600, End: -600 }[event.key];
    if (!view || !step) return;
    event.preventDefault();
    const oldest = view.history.ago[0] || 0;
    point(Math.min(oldest, Math.max(0, (cursor ?? 0) + step)));
  });

  // -- now and again

  function show() {
    document.body.classList.remove("loading", "lost");
    header();
    banner(view.ready ? "" : "Not ready: what is shown may be old, or lacks a part.", view.reasons, "bad");
    for (const part of [tiles, chart, attention, queues, workers, slowest, failing, workflows, observer]) part();
  }
  function lose(message) {
    document.body.classList.add("lost");
    text($("state"), "No answer");
    $("state").className = "pill bad";
    banner(message, [], "bad");
  }
  async function look() {
    clearTimeout(timer);
    try {
      const answer = await fetch("overview", { cache: "no-store", signal: AbortSignal.timeout(8000) });
      if (answer.status === 401 || answer.status === 403) return void lose("Not allowed any more: reload the page to sign in.");
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = await answer.json();
      if (!fresh.version) throw new Error("no view yet");
      if (fresh.version !== VERSION && performance.now() > 60000) return void location.reload();
      renewed = view && view.at === fresh.at ? renewed : Date.now();
      view = fresh;
      failures = 0;
      answered = Date.now();
      show();
      if (Date.now() - renewed > 15000) banner("The exporter answers, and what it says is not renewed.", [], "warn");
    } catch {
      failures += 1;
      if (failures > 1) lose(answered ? `No answer for ${duration((Date.now() - answered) / 1000)}. Trying again …` : "No answer yet. Trying again …");
    }
    if (!paused && !document.hidden) timer = setTimeout(look, Math.min(EVERY * Math.max(1, failures), 5000));
  }
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    if (view) header();
    if (paused) clearTimeout(timer);
    else look();
  });
  document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : !paused && look());
  new ResizeObserver(() => view && chart()).observe($("chart"));
  look();
})();
