"use strict";
{
  const SILENCE_MS = 40000; // the server says something every 15 s
  const AGAIN_MS = 3000;
  const EVENTS = 60;
  const UNITS = ["B", "K", "M", "G", "T"];
  const SHOWN = ["name", "state", "reason", "since", "user", "url", "kernels", "restarts", "cpu_percent", "memory_bytes", "next_restart_at"];

  const main = document.querySelector("main");
  const facts = JSON.parse(main.dataset.facts);
  const within = (element, name) => element.querySelector(`[data-part=${name}]`);
  const part = (name) => within(document, name);
  const body = part("labs");
  const search = part("search");
  const query = search.querySelector("input");

  const rows = new Map(); // name → {entry, samples, element, parts, visible, stale}
  const dirty = new Set();
  const news = [];
  const said = new Set(); // ids of events
  let daemon = null;
  let wanted = ""; // the only state that is shown
  let ahead = 0; // the server's clock minus ours, in ms
  let heard = performance.now();
  let frame = 0;
  let source = null;

  // Elements are touched only where something is different: cheap, and announced only then.
  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const put = (element, name, value) => {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };
  const now = () => (Date.now() + ahead) / 1000;

  const duration = (seconds) => {
    const whole = Math.max(0, Math.floor(seconds));
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min`;
    if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
    const hours = whole < 7 * 86400 ? ` ${Math.floor(whole / 3600) % 24} h` : "";
    return `${Math.floor(whole / 86400)} d${hours}`;
  };

  const size = (count) => {
    let unit = 0;
    for (; count >= 1000 && unit < UNITS.length - 1; unit += 1) count /= 1024;
    return `${count.toFixed(unit >= 3 && count < 100 ? 1 : 0)} ${UNITS[unit]}`;
  };

  // Rows

  const partsOf = (element) => Object.fromEntries([...element.querySelectorAll("[data-part]")].map((each) => [each.dataset.part, each]));

  const adopt = (name, element) => {
    const row = { name, entry: {}, samples: [], element, parts: partsOf(element), visible: false, stale: false };
    rows.set(name, row);
    seen.observe(element);
    return row;
  };

  const create = (name) => {
    const element = document.getElementById("line").content.querySelector("tr").cloneNode(true);
    element.dataset.name = name;
    return adopt(name, element);
  };

  // Graphs and ages of rows out of sight are brought up to date when they come into sight.
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const row = rows.get(target.dataset.name);
        if (!row) continue;
        row.visible = isIntersecting;
        if (isIntersecting && row.stale) touch(row);
      }
    },
    { rootMargin: "200px" },
  );

  const points = (samples, which, least) => {
    const { width, height } = facts;
    const top = samples.reduce((most, sample) => Math.max(most, sample[which]), least);
    const end = now();
    return samples
      .map((sample) => `${(width * (1 - (end - sample[0]) / facts.window)).toFixed(1)},${(height - 1 - ((height - 2) * sample[which]) / top).toFixed(1)}`)
      .join(" ");
  };

  const graph = (element, line) => {
    const [area, curve] = element.children;
    const [first] = line.split(",", 1);
    const last = line.slice(line.lastIndexOf(" ") + 1).split(",", 1)[0];
    put(curve, "points", line);
    put(area, "points", line && `${first},${facts.height} ${line} ${last},${facts.height}`);
  };

  const sinceOf = ({ state, since, next_restart_at: next }) => {
    if (state === "backoff" && next) {
      const left = Date.parse(next) / 1000 - now();
      return left > 0 ? `again in ${duration(left)}` : "again now";
    }
    return since ? `for ${duration(now() - Date.parse(since) / 1000)}` : "";
  };

  const link = (parts, entry) => {
    const openable = /^https?:\/\//.test(entry.url ?? "");
    const old = parts.name.firstElementChild;
    if (openable && old?.getAttribute("href") === entry.url && old.textContent === entry.name) return;
    if (!openable) return say(parts.name, entry.name);
    const anchor = document.createElement("a");
    anchor.href = entry.url;
    anchor.textContent = entry.name;
    parts.name.replaceChildren(anchor);
  };

  const age = (row) => say(row.parts.since, sinceOf(row.entry));

  const draw = (row) => {
    const { entry, parts, element } = row;
    put(element, "data-mood", facts.moods[entry.state] ?? "rest");
    put(element, "data-state", entry.state);
    link(parts, entry);
    say(parts.user, entry.user && entry.user !== entry.name ? entry.user : "");
    say(parts.state, entry.state);
    say(parts.reason, entry.reason ?? "");
    put(parts.since, "datetime", entry.since ?? "");
    put(parts.since, "title", `since ${entry.since}`);
    say(parts.cpu, entry.cpu_percent === null ? "" : `${entry.cpu_percent.toFixed(0)} %`);
    say(parts.memory, entry.memory_bytes === null ? "" : size(entry.memory_bytes));
    say(parts.kernels, entry.kernels === null ? "" : String(entry.kernels));
    say(parts.restarts, entry.restarts ? String(entry.restarts) : "");
    element.hidden = !matches(entry);
    row.stale = !row.visible;
    if (row.stale) return;
    age(row);
    graph(parts["cpu-graph"], points(row.samples, 1, facts.cpu));
    graph(parts["memory-graph"], points(row.samples, 2, facts.memory));
  };

  const touch = (row) => {
    dirty.add(row);
    frame ||= requestAnimationFrame(show);
  };

  const show = () => {
    frame = 0;
    for (const row of dirty) draw(row);
    dirty.clear();
    count();
    if (news.length) announce(news.splice(0));
  };

  const announce = (sentences) => {
    say(part("news"), sentences.length > 3 ? `${sentences.length} labs changed` : sentences.join(". "));
  };

  // Which are shown

  const matches = (entry) => {
    const word = query.value.trim().toLowerCase();
    if (wanted && entry.state !== wanted) return false;
    return !word || [entry.name, entry.user, entry.state, entry.reason].some((text) => text?.toLowerCase().includes(word));
  };

  const filter = () => {
    for (const row of rows.values()) row.element.hidden = !matches(row.entry);
    count();
  };

  const count = () => {
    const found = Object.fromEntries(Object.keys(facts.moods).map((state) => [state, 0]));
    let shown = 0;
    for (const { entry, element } of rows.values()) {
      found[entry.state] += 1;
      shown += !element.hidden;
    }
    const list = part("counts");
    for (const [state, number] of Object.entries(found)) {
      const item = list.querySelector(`[data-count=${state}]`);
      say(item.querySelector("b"), String(number));
      item.hidden = !number && state !== wanted;
    }
    const none = part("none");
    none.hidden = shown > 0;
    say(none, rows.size ? "No lab is like that." : "There are no labs yet: jlabctl add NAME adds one.");
  };

  const choices = () => {
    const items = Object.entries(facts.moods).map(([state, mood]) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      const word = document.createElement("span");
      item.dataset.count = state;
      item.dataset.mood = mood;
      item.hidden = true;
      button.type = "button";
      button.className = "count";
      put(button, "aria-pressed", "false");
      word.className = "state";
      word.textContent = state;
      button.append(word, " ", document.createElement("b"));
      button.addEventListener("click", () => choose(wanted === state ? "" : state));
      item.append(button);
      return item;
    });
    part("counts").replaceChildren(...items);
  };

  const choose = (state) => {
    wanted = state;
    for (const item of part("counts").children) put(item.firstElementChild, "aria-pressed", String(item.dataset.count === state));
    filter();
  };

  // What the server says

  const hear = (text) => {
    const told = JSON.parse(text);
    if (told.now) ahead = Date.parse(told.now) - Date.now();
    heard = performance.now();
    live(true);
    return told;
  };

  const take = (row, found) => {
    const before = row.entry.state;
    Object.assign(row.entry, found);
    if (before && before !== row.entry.state) news.push(`${row.name} is ${row.entry.state}: ${row.entry.reason}`);
    sample(row);
    touch(row);
  };

  const sample = ({ entry, samples }) => {
    if (entry.cpu_percent === null || entry.memory_bytes === null) return;
    const at = now();
    if (samples.length && at - samples.at(-1)[0] < facts.spacing) return;
    samples.push([at, entry.cpu_percent, entry.memory_bytes]);
    while (samples[0][0] < at - facts.window) samples.shift();
  };

  const whole = ({ document: found, history }) => {
    const names = new Set(found.instances.map((entry) => entry.name));
    for (const [name, row] of rows) {
      if (names.has(name)) continue;
      seen.unobserve(row.element);
      row.element.remove();
      rows.delete(name);
      dirty.delete(row);
    }
    const end = now();
    let last = null;
    for (const entry of found.instances) {
      const row = rows.get(entry.name) ?? create(entry.name);
      row.samples = (history[entry.name] ?? []).map(([ago, cpu, memory]) => [end - ago, cpu, memory]);
      take(row, Object.fromEntries(SHOWN.map((key) => [key, entry[key] ?? null])));
      const place = last ? last.nextElementSibling : body.firstElementChild;
      if (place !== row.element) body.insertBefore(row.element, place);
      last = row.element;
    }
    about(found);
    frame ||= requestAnimationFrame(show);
  };

  const about = (found) => {
    daemon = { ...daemon, ...found };
    say(part("version"), daemon.version);
    const sentences = [
      ["The configuration on disk is not in use", daemon.config.error],
      ["nginx is not in line", daemon.nginx.error],
    ].filter(([, error]) => error);
    const box = part("troubles");
    const texts = sentences.map(([what, error]) => `${what}: ${error}`);
    if (texts.join("\n") === [...box.children].map((each) => each.textContent).join("\n")) return;
    box.replaceChildren(
      ...texts.map((text) => {
        const line = document.createElement("p");
        line.className = "trouble card";
        line.textContent = text;
        return line;
      }),
    );
  };

  const changes = ({ instances, daemon: facts }) => {
    for (const [name, found] of Object.entries(instances)) if (rows.has(name)) take(rows.get(name), found);
    if (Object.keys(facts).length) about(facts);
  };

  const span = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.textContent = text;
    return element;
  };

  const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

  const happened = (event, id) => {
    if (id && said.has(id)) return;
    said.add(id);
    const item = document.createElement("li");
    item.dataset.id = id;
    const time = span("time", "quiet", clock(event.time));
    time.dateTime = event.time;
    item.append(time, " ", span("b", "", event.instance ?? "jlabd"), " ");
    if (event.state) {
      item.dataset.mood = facts.moods[event.state] ?? "rest";
      item.append(span("span", "state", event.state), " ");
    }
    item.append(span("span", "", event.reason));
    const list = part("events");
    list.prepend(item);
    while (list.children.length > EVENTS) {
      said.delete(list.lastElementChild.dataset.id);
      list.lastElementChild.remove();
    }
    part("nothing").hidden = true;
  };

  // The connection

  const live = (well) => {
    const shown = part("connection");
    put(shown, "data-live", well ? "yes" : "no");
    say(shown, well ? "Live" : "jlabd does not answer; what is shown may be old");
  };

  const listen = () => {
    source?.close();
    heard = performance.now();
    source = new EventSource("events");
    source.addEventListener("status", ({ data }) => whole(hear(data)));
    source.addEventListener("changes", ({ data }) => changes(hear(data)));
    source.addEventListener("beat", ({ data }) => hear(data));
    source.addEventListener("journal", ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      happened(event, event.seq === null ? "" : lastEventId);
    });
    source.addEventListener("error", () => {
      live(false);
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
    });
  };

  for (const element of body.children) adopt(element.dataset.name, element);
  for (const item of part("events").children) {
    if (item.dataset.id) said.add(item.dataset.id);
    const time = item.querySelector("time");
    say(time, clock(time.dateTime));
  }
  choices();
  search.hidden = false;
  query.addEventListener("input", filter);
  setInterval(() => {
    for (const row of rows.values()) if (row.visible && row.entry.state) age(row);
    if (performance.now() - heard > SILENCE_MS) {
      live(false);
      listen();
    }
  }, 1000);
  listen();
}
