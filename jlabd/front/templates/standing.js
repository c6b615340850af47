"use strict";
{
  const SLOWEST_ANSWER_MS = 20000;
  const GATEWAY = new Set([502, 503, 504]);
  const main = document.querySelector("main");
  const bar = main.querySelector("progress");
  const part = (name) => main.querySelector(`[data-part=${name}]`);

  let facts = JSON.parse(main.dataset.facts);
  let began = performance.now() - facts.since_s * 1000;
  let read = performance.now();
  let alike = 0; // answers in a row that brought nothing new
  let timer, asking;

  // The live region is announced when it changes: it is touched only then.
  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  const duration = (seconds) => {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 120) return `${whole} s`;
    return whole < 7200 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 3600)} h`;
  };

  const clock = (now) => {
    const passed = (now - began) / 1000;
    if (facts.mood !== "wait") return passed < 1 ? "" : `In this state for ${duration(passed)}.`;
    if (facts.next_start_s !== null) {
      const left = facts.next_start_s - (now - read) / 1000;
      return left > 0 ? `Next attempt in ${duration(left)}.` : "Next attempt now.";
    }
    const usual = facts.expected_s === null ? "" : ` Usually it takes about ${duration(Math.max(1, facts.expected_s))}.`;
    return `${duration(passed)} so far.${usual}`;
  };

  const tick = () => {
    const now = performance.now();
    const passed = (now - began) / 1000;
    say(part("clock"), clock(now));
    bar.hidden = facts.mood !== "wait";
    if (facts.expected_s !== null && facts.next_start_s === null) {
      const share = passed / Math.max(1, facts.expected_s);
      bar.value = share < 1 ? 90 * share : 90 + 9 * (1 - 1 / share);
    } else {
      bar.removeAttribute("value");
    }
  };

  const item = (hint) => {
    const line = document.createElement("li");
    line.append(hint.text);
    if (hint.command) {
      const code = document.createElement("code");
      code.append(hint.command);
      line.append(code);
    }
    return line;
  };

  const show = (found) => {
    const same = ["state", "reason", "headline", "detail"].every((key) => found[key] === facts[key]);
    alike = same ? alike + 1 : 0;
    facts = found;
    read = performance.now();
    began = read - facts.since_s * 1000;
    main.dataset.mood = facts.mood;
    document.title = facts.headline;
    for (const name of ["state", "headline", "detail", "reason", "action"]) say(part(name), facts[name]);
    part("detail").hidden = !facts.detail;
    part("reason").parentElement.hidden = !facts.reason;
    part("action").parentElement.hidden = !facts.action;
    part("action").classList.toggle("first", facts.will_wake);
    part("offline").hidden = true;
    if (!same) part("hints").replaceChildren(...facts.hints.map(item));
    part("hints").parentElement.hidden = !facts.hints.length;
    tick();
    return Math.min(facts.again_s * 1.25 ** alike, facts.at_most_s);
  };

  // The same address again, with its query and fragment, and nowhere else.
  const goOn = () => {
    clearTimeout(timer);
    if (location.hash) location.reload();
    else location.replace(location.href);
  };

  const unreachable = () => {
    part("offline").hidden = false;
    alike += 1;
    return Math.min(1.25 ** alike, 30);
  };

  const ask = async (signal) => {
    const patient = facts.mood === "wait" && part("offline").hidden;
    const answer = await fetch(location.pathname, {
      headers: { [main.dataset.progress]: patient ? "wait" : "1" },
      cache: "no-store",
      redirect: "manual",
      signal,
    });
    const state = answer.headers.get("X-Jlabd-State");
    if (state === "ready" || (state === null && !GATEWAY.has(answer.status))) return null;
    return state === null ? unreachable() : show(await answer.json());
  };

  const look = async () => {
    clearTimeout(timer);
    asking?.abort();
    const mine = (asking = new AbortController());
    const limit = setTimeout(() => mine.abort(), SLOWEST_ANSWER_MS);
    let pause;
    try {
      pause = await ask(mine.signal);
    } catch {
      pause = asking === mine ? unreachable() : 0;
    }
    clearTimeout(limit);
    if (asking !== mine) return; // asked anew meanwhile
    asking = null;
    if (pause === null) {
      mine.abort(); // of the lab's answer only the head was wanted
      goOn();
    } else {
      timer = setTimeout(look, pause * 1000);
    }
  };

  const lookNow = () => {
    alike = 0;
    look();
  };

  part("action").addEventListener("click", (event) => {
    event.preventDefault();
    if (facts.will_wake && facts.state === "idle") goOn();
    else lookNow();
  });
  addEventListener("online", lookNow);
  addEventListener("pageshow", (event) => event.persisted && lookNow());
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && lookNow());

  tick();
  setInterval(tick, 500);
  timer = setTimeout(look, Math.min(facts.again_s, 1) * 1000);
}
