// What pages cannot do without script: regions that refresh, times in the user's zone, rows chosen by key or
// checkbox, buttons that copy, bars that show where one is, and the timeline's tips, width and zoom by dragging.
// Every page works without it.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("script");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const file = byId("import");  // the form of a page whose history is in the page: it is sent with every question

  // --- times ---

  const pad = (number, digits = 2) => String(number).padStart(digits, "0");
  function ago(ms) {
    const seconds = Math.round(Math.abs(ms) / 1000);
    const [count, unit] = seconds < 60 ? [seconds, "s"] : seconds < 3600 ? [Math.round(seconds / 60), "min"]
      : seconds < 86400 ? [Math.round(seconds / 3600), "h"] : [Math.round(seconds / 86400), "d"];
    return ms >= 0 ? `${count} ${unit} ago` : `in ${count} ${unit}`;
  }
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  function localTime(moment, hasMs) {
    return `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())} `
      + `${pad(moment.getHours())}:${pad(moment.getMinutes())}:${pad(moment.getSeconds())}`
      + (hasMs ? `.${pad(moment.getMilliseconds(), 3)}` : "");
  }
  if (root.dataset.times !== "utc") byId("zone").textContent = `times in ${zone}`;
  function showTimes(within) {
    const style = root.dataset.times;
    for (const element of all("time[datetime]", within)) {
      const text = element.getAttribute("datetime");
      const moment = new Date(text);
      const ms = element.dataset.style === "ms" ? `.${pad(moment.getUTCMilliseconds(), 3)}` : "";
      const local = localTime(moment, ms !== "");
      const utc = text.slice(0, 19).replace("T", " ") + ms;
      element.textContent = style === "utc" ? utc : style === "relative" ? ago(Date.now() - moment) : local;
      element.title = `${local} ${zone}\n${utc} UTC\n${ago(Date.now() - moment)}`;
    }
  }

  // --- copying ---

  function addCopyButtons(within) {
    for (const one of all("[data-copy]", within)) {
      if (one.nextElementSibling?.matches(".copy")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.title = `Copy ${one.dataset.copy}`;
      button.setAttribute("aria-label", button.title);
      one.after(button);
    }
  }
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Browsers have that for localhost and HTTPS only; elsewhere what is selected can be copied.
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "visually-hidden";
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    await copy(button.previousElementSibling.textContent);
    button.focus({ preventScroll: true });
    button.classList.add("done-copying");
    byId("said").textContent = `Copied: ${button.previousElementSibling.dataset.copy}`;
    setTimeout(() => { button.classList.remove("done-copying"); byId("said").textContent = ""; }, 1500);
  });

  // --- regions that refresh ---

  const every = Number(document.body.dataset.liveMs || 0);
  const liveButton = byId("live");
  let isHeld = false, tag = "", isAsking = false;
  function pageUrl() {
    const url = new URL(location.href);
    const box = byId("timeline");
    if (box) url.searchParams.set("width", String(Math.max(320, Math.min(4000, box.clientWidth))));
    url.hash = "";
    return url;
  }
  function replaceRegions(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const region of all("[data-live]")) {
      const other = fresh.getElementById(region.id);
      if (!other) continue;
      showTimes(other);
      addCopyButtons(other);
      if (other.innerHTML === region.innerHTML) continue;
      const open = new Set(all("details[open]", region).map((one) => one.parentElement.id || one.className));
      const active = region.contains(document.activeElement) ? document.activeElement : null;
      const focused = active?.getAttribute("href");
      const copied = active?.matches(".copy") ? all(".copy", region).indexOf(active) : -1;
      const unfolded = active?.tagName === "SUMMARY" ? active.closest("li[id]")?.id : "";
      const chosen = new Set(all(".select-run:checked", region).map((box) => box.value));
      region.replaceChildren(...other.childNodes);
      for (const one of all("details", region)) if (open.has(one.parentElement.id || one.className)) one.open = true;
      for (const box of all(".select-run", region)) box.checked = chosen.has(box.value);
      if (focused) all("a[href]", region).find((one) => one.getAttribute("href") === focused)?.focus({ preventScroll: true });
      else if (copied >= 0) all(".copy", region)[copied]?.focus({ preventScroll: true });
      else if (unfolded) byId(unfolded)?.querySelector("summary").focus({ preventScroll: true });
      prepare(region);
    }
    const frame = fresh.body.dataset.liveMs;
    if (!frame && every) setLive(false);
  }
  const isBusy = () => document.hidden || isHeld || isDragging || document.querySelector(".tip");
  async function refresh(isWanted = () => true) {
    if (isAsking) return;
    isAsking = true;
    try {
      const asked = file ? { method: "POST", body: new FormData(file) } : { headers: { "If-None-Match": tag || '"none"' } };
      const answer = await fetch(pageUrl(), { ...asked, cache: "no-store" });
      liveButton?.classList.toggle("failing", answer.status >= 500);
      if (answer.ok) {
        const text = await answer.text();
        // What somebody has begun to look at while the answer was on its way stays as it is.
        if (!isWanted()) return;
        tag = answer.headers.get("ETag") || "";
        replaceRegions(text);
      }
    } catch {
      liveButton?.classList.add("failing");
    } finally {
      isAsking = false;
    }
  }
  function setLive(on) {
    isHeld = !on;
    liveButton?.setAttribute("aria-pressed", String(on));
  }
  if (every) {
    liveButton?.addEventListener("click", () => setLive(isHeld));
    setInterval(() => {
      if (!isBusy()) refresh(() => !isBusy());
    }, every);
  }

  // --- rows ---

  const selected = () => all(".select-run:checked");
  function showSelected() {
    const button = byId("batch-selected");
    if (!button) return;
    button.hidden = selected().length === 0;
    byId("selected-count").textContent = String(selected().length);
    byId("selected-runs").value = "";
  }
  byId("batch-selected")?.addEventListener("click", () => {
    byId("selected-runs").value = selected().map((box) => box.value).join(",");
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "select-all") for (const box of all(".select-run")) box.checked = event.target.checked;
    showSelected();
  });
  document.addEventListener("click", (event) => {
    const menu = document.querySelector("details.menu[open]");
    if (menu && !menu.contains(event.target)) menu.open = false;
    const row = event.target.closest("tr[data-href]");
    if (row && !event.target.closest("a, button, input, label, .tick-cell") && !String(getSelection())) {
      location.href = row.dataset.href;
    }
  });

  if (file) document.addEventListener("click", (event) => {
    const id = event.target.closest("a[data-event]")?.dataset.event;
    if (!id || event.defaultPrevented) return;
    event.preventDefault();
    byId("wanted-event").value = id;
    byId("find-event").click();
  });

  // --- keys ---

  const places = { w: "workflows", s: "schedules", b: "batches", q: "task-queues" };
  let isGoing = false;
  function step(by) {
    const events = all(".event summary");
    if (events.length) {
      const at = events.indexOf(document.activeElement);
      events[Math.max(0, Math.min(events.length - 1, at + by))].focus();
      return;
    }
    const rows = all("tr[data-href]");
    const at = rows.findIndex((row) => row.classList.contains("on"));
    rows[at]?.classList.remove("on");
    const row = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
    row?.classList.add("on");
    row?.scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const menu = document.querySelector("details.menu[open]");
      if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
      hideTip();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (isGoing && places[event.key]) all(".side a").find((one) => one.getAttribute("href").endsWith(places[event.key]))?.click();
    else if (event.key === "/" && byId("query")) { event.preventDefault(); byId("query").focus(); }
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "Enter" && event.target === document.body) document.querySelector("tr.on a")?.click();
    else if (event.key === "l") liveButton?.click();
    else if (event.key === "a") {
      const menu = document.querySelector("details.menu");
      if (menu) { menu.open = true; menu.querySelector("a").focus(); }
    } else if (event.key === "t" || event.key === "h") document.querySelector(`.tabs a[data-key="${event.key}"]`)?.click();
    else if (event.key === "?") byId("keys").showModal();
    isGoing = event.key === "g";
  });

  // --- the timeline ---

  let tip = null, isDragging = false;
  function hideTip() { tip?.remove(); tip = null; }
  function showTip(event) {
    const bar = event.target.closest?.("[data-tip]");
    if (!bar || isDragging) { hideTip(); return; }
    if (!tip) { tip = document.createElement("div"); tip.className = "tip"; tip.setAttribute("role", "tooltip"); document.body.append(tip); }
    tip.textContent = bar.dataset.tip.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+Z/g, (text) => {
      const moment = new Date(text.replace(" ", "T"));
      if (root.dataset.times === "utc") return text;
      return localTime(moment, true);
    });
    const box = tip.getBoundingClientRect();
    const at = event.clientX !== undefined && event.type !== "focusin" ? [event.clientX, event.clientY] : [bar.getBoundingClientRect().left, bar.getBoundingClientRect().bottom];
    // Positions are set through the style object, which the policy allows; no style attribute is written by a page.
    tip.style.left = `${Math.max(4, Math.min(at[0] + 12, innerWidth - box.width - 8))}px`;
    tip.style.top = `${at[1] + 18 + box.height > innerHeight ? at[1] - box.height - 10 : at[1] + 16}px`;
  }
  function prepareTimeline(svg) {
    for (const title of all(".bar > title", svg)) {
      const bar = title.parentElement;
      bar.dataset.tip = title.textContent;
      bar.parentElement.setAttribute?.("aria-label", title.textContent.split("\n").slice(0, 2).join(", "));
      title.remove();
    }
    svg.addEventListener("pointermove", showTip);
    svg.addEventListener("pointerleave", hideTip);
    svg.addEventListener("focusin", (event) => showTip({ target: event.target.querySelector?.("[data-tip]") || event.target, type: "focusin" }));
    svg.addEventListener("focusout", hideTip);
    svg.addEventListener("pointerdown", (event) => dragRange(svg, event));
    svg.addEventListener("dragstart", (event) => event.preventDefault());
  }
  function timeAt(svg, x) {
    // Milliseconds since the run began; the axis is linear between its points, of which a fold has two.
    const points = svg.dataset.points.split(" ").map((point) => point.split(":").map(Number));
    const next = Math.max(1, points.findIndex(([at]) => at >= x));
    const [[x0, from], [x1, to]] = [points[next - 1], points[next]];
    const begin = Number(BigInt(svg.dataset.from) - BigInt(byId("timeline").dataset.start)) / 1e6;
    return begin + from + (to - from) * Math.min(1, (x - x0) / (x1 - x0));
  }
  function goTo(from, to) {
    const url = new URL(location.href);
    url.searchParams.set("from", from.toFixed(3));
    url.searchParams.set("to", to.toFixed(3));
    if (file) { file.action = url.href; file.submit(); } else location.href = url.href;
  }
  function dragRange(svg, down) {
    const plot = Number(svg.dataset.plot), left = svg.getBoundingClientRect().left, end = Number(svg.dataset.end);
    const x0 = down.clientX - left;
    if (down.button !== 0 || down.pointerType === "touch" || x0 < plot) return;
    let rect = null;
    const move = (event) => {
      const x = Math.max(plot, Math.min(event.clientX - left, end));
      if (!rect && Math.abs(x - x0) < 6) return;
      if (!rect) {
        isDragging = true;
        hideTip();
        rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        rect.setAttribute("class", "select-range");
        rect.setAttribute("y", "22");
        rect.setAttribute("height", svg.getAttribute("height"));
        svg.append(rect);
      }
      rect.setAttribute("x", Math.min(x0, x));
      rect.setAttribute("width", Math.abs(x - x0));
    };
    const up = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", up);
      if (!rect) return;
      addEventListener("click", (event) => { event.preventDefault(); event.stopPropagation(); }, { capture: true, once: true });
      const begin = Number(rect.getAttribute("x"));
      isDragging = false;
      goTo(timeAt(svg, begin), timeAt(svg, begin + Number(rect.getAttribute("width"))));
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", up);
  }

  function prepare(within) {
    showTimes(within);
    addCopyButtons(within);
    for (const svg of all("svg.timeline", within)) prepareTimeline(svg);
    showSelected();
  }
  prepare(document);
  for (const current of all(".side [aria-current], .tabs [aria-current]")) {
    const bar = current.parentElement;
    const hidden = current.getBoundingClientRect().right - bar.getBoundingClientRect().right;
    if (hidden > 0) bar.scrollLeft += hidden + 48;  // so far that the next one shows, too
  }
  const box = byId("timeline");
  if (box && Math.abs(Number(box.querySelector("svg").getAttribute("width")) - box.clientWidth) > 4) refresh();
  let resizing = 0;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    if (box) resizing = setTimeout(() => { tag = ""; refresh(); }, 200);
  });
})();
