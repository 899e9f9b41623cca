// What a page does in the browser: keys, asking before an act, choosing rows, uploads, replays.
// Whatever changes something goes to the API, which asks for the scope again.
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, text, look) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (look) made.className = look;
    return made;
  };
  const renew = () => { if (window.emitEvent) emitEvent("renew"); };
  const say = (text, kind = "good") => {
    const line = make("div", text, `alert ${kind}`);
    $("said").replaceChildren(line);
    setTimeout(() => line.remove(), kind === "bad" ? 15000 : 6000);
  };
  const call = async (address, body, method = "POST") => {
    const answer = await fetch(address, {
      method, headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error([told.detail || `Answer ${answer.status}.`, told.hint].filter(Boolean).join(" "));
    return told;
  };
  const ask = (title, lines, yes = "Do it") => new Promise((done) => {
    const box = $("ask");
    $("ask-title").textContent = title;
    $("ask-body").replaceChildren(...lines);
    const agree = box.querySelector("[data-yes]");
    agree.textContent = yes;
    agree.hidden = yes === null;
    const end = (answer) => { box.onclose = null; box.close(); done(answer); };
    agree.onclick = () => end(true);
    box.querySelector("[data-no]").onclick = () => end(false);
    box.onclose = () => done(false);
    box.showModal();
  });
  window.nemflow = { make, renew, say, call, ask };

  // -- rows that are chosen: kept while the table renews itself -------------------------------
  const chosen = new Map();
  const shown = () => {
    const bar = $("bulk-count");
    if (bar) bar.textContent = chosen.size ? `${chosen.size} chosen` : "None chosen";
    document.querySelectorAll("[data-bulk]").forEach((each) => { each.disabled = !chosen.size; });
  };
  const restore = () => {
    document.querySelectorAll("[data-pick]").forEach((box) => {
      if (chosen.has(box.dataset.pick)) { box.checked = true; chosen.set(box.dataset.pick, { ...box.dataset }); }
    });
    document.querySelectorAll("textarea[id]").forEach((box) => {
      const draft = drafts.get(box.id);
      if (draft && box.value === box.defaultValue && draft.from === box.defaultValue) box.value = draft.text;
    });
    shown();
  };
  // What somebody is writing is put back when its part of the page was drawn anew.
  const drafts = new Map();
  document.addEventListener("input", (event) => {
    const box = event.target;
    if (!box.matches("textarea[id]")) return;
    if (box.value === box.defaultValue) drafts.delete(box.id);
    else drafts.set(box.id, { from: box.defaultValue, text: box.value });
  });
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; restore(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-all]")) {
      document.querySelectorAll("[data-pick]").forEach((each) => {
        each.checked = box.checked;
        if (box.checked) chosen.set(each.dataset.pick, { ...each.dataset }); else chosen.delete(each.dataset.pick);
      });
    } else if (box.matches("[data-pick]")) {
      if (box.checked) chosen.set(box.dataset.pick, { ...box.dataset }); else chosen.delete(box.dataset.pick);
    } else if (box.matches("form.filters select, form.filters input[type=date]")) {
      box.form.requestSubmit();
    }
    shown();
  });
  const ACTS = {
    retry: { title: "Retry", what: "will be queued again, with all attempts" },
    cancel: { title: "Cancel", what: "will be stopped" },
    undo: { title: "Undo", what: "will be taken back; what stood before counts again" },
  };
  const bulk = async (act) => {
    const rule = ACTS[act], all = [...chosen.values()].sort((a, b) => a.pick - b.pick);
    const which = all.map((d) => Number(d.pick)), address = `/v1/deliveries/${act}`;
    const list = (rows, words) => {
      const made = make("ul");
      rows.slice(0, 12).forEach((d) => made.append(make("li", `${d.pick} ${d.name}${words(d)}`)));
      if (rows.length > 12) made.append(make("li", `… and ${rows.length - 12} more`));
      return made;
    };
    let told;
    try { told = await call(address, { deliveries: which, dry_run: true }); }
    catch (error) { say(error.message, "bad"); return; }
    const hit = new Set(told.deliveries.map((d) => String(d.delivery)));
    const may = (d) => hit.has(d.pick) && (act !== "retry" || d.kept === "spooled");
    const can = all.filter(may), not = all.filter((d) => !may(d));
    const why = (d) => hit.has(d.pick) ? "its original is gone" : `it is ${d.state.replace("_", " ")}`;
    const days = can.reduce((sum, d) => sum + Number(d.days || 0), 0);
    const lines = [];
    if (can.length) lines.push(make("p", `${can.length} ${rule.what}${act === "undo" ? ` (${days.toLocaleString("en")} days)` : ""}:`), list(can, () => ""));
    if (not.length) lines.push(make("p", `${not.length} will be left as they are:`), list(not, (d) => `: ${why(d)}`));
    if (!await ask(`${rule.title} ${all.length} ${all.length === 1 ? "file" : "files"}?`, lines, can.length ? rule.title : null)) return;
    try {
      const done = await call(address, { deliveries: can.map((d) => Number(d.pick)) });
      done.done.forEach((number) => chosen.delete(String(number)));
      const bad = done.refused;
      say(`${rule.title}: ${done.done.length} done${bad.length ? `, ${bad.length} not. ${bad[0].delivery}: ${bad[0].detail}` : "."}`, bad.length ? "bad" : "good");
    } catch (error) { say(error.message, "bad"); }
    document.querySelectorAll("[data-pick], [data-all]").forEach((box) => { box.checked = chosen.has(box.dataset.pick); });
    shown(); renew();
  };

  // -- fix and replay ---------------------------------------------------------------------------
  const summary = (told) => {
    const sum = (name) => told.days[name] + told.reads[name];
    return `${sum("read")} read = ${sum("stored")} stored + ${sum("unchanged")} unchanged + ${sum("rejected")} rejected`;
  };
  const replay = async (button) => {
    const box = button.closest("[data-replay]");
    const dry = button.dataset.how === "try";
    const body = { profile: box.querySelector("select").value, dry_run: dry };
    const text = box.querySelector("textarea");
    if (text) body.edits = { [box.dataset.record]: text.value }; else {
      if (box.dataset.file) body.file = box.dataset.file;
      if (box.dataset.rule) body.rule = box.dataset.rule;
    }
    const out = box.querySelector("output");
    button.disabled = true;
    try {
      const told = await call("/v1/replay", body);
      const left = told.days.rejected + told.reads.rejected;
      const found = told.files.flatMap((file) => file.findings).filter((each) => each.severity !== "W");
      out.className = `alert ${left ? "warn" : "good"}`;
      out.replaceChildren(make("b", dry ? "Tried, nothing written: " : "Replayed: "), summary(told) + ".");
      found.slice(0, 5).forEach((each) => out.append(make("div", `${each.rule}${each.field ? `, ${each.field}` : ""}: ${each.message.replace(/\.?$/, ".")} ${each.todo}`)));
      if (!dry) { say(`Replayed: ${summary(told)}.`, left ? "warn" : "good"); renew(); if (!left) box.querySelectorAll("button, textarea").forEach((each) => { each.disabled = true; }); }
    } catch (error) { out.className = "alert bad"; out.textContent = error.message; }
    if (dry || !out.classList.contains("good")) button.disabled = false;
  };

  // -- uploads: straight to the API, each followed to its final state -----------------------------
  const FINAL = ["loaded", "partly_loaded", "duplicate", "rejected", "dead", "cancelled", "undone"];
  const LOOK = { loaded: ["good", "✓"], partly_loaded: ["warn", "!"], duplicate: ["off", "="], rejected: ["bad", "✕"], dead: ["bad", "✝"], cancelled: ["off", "–"] };
  const chip = (state) => {
    const [kind, icon] = LOOK[state] || ["busy", "◐"];
    const made = make("span", undefined, `chip ${kind}`);
    const drawn = make("span", icon); drawn.setAttribute("aria-hidden", "true");
    made.append(drawn, ` ${state.replace("_", " ")}`);
    return made;
  };
  const put = (file, onProgress) => new Promise((done, fail) => {
    const sent = new XMLHttpRequest();
    const lane = $("upload-lane");
    sent.open("PUT", `/v1/deliveries/${encodeURIComponent(file.name)}?priority=${lane ? lane.value : "normal"}`);
    sent.upload.onprogress = (event) => { if (event.lengthComputable) onProgress(event.loaded / event.total); };
    sent.onload = () => {
      let told = {};
      try { told = JSON.parse(sent.responseText); } catch { /* told below */ }
      if (sent.status < 400) done(told);
      else fail(Object.assign(new Error([told.detail, told.hint].filter(Boolean).join(" ") || `Answer ${sent.status}.`),
        { again: Number(sent.getResponseHeader("Retry-After") || 0) }));
    };
    sent.onerror = () => fail(new Error("The service does not answer. Is it running?"));
    sent.send(file);
  });
  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
  const upload = async (file) => {
    const row = make("li"), state = make("span"), bar = make("progress");
    bar.max = 1; bar.value = 0; bar.setAttribute("aria-label", `Sending ${file.name}`);
    const name = make("span", file.name, "name");
    state.append(bar);
    row.append(name, state);
    $("uploads").prepend(row);
    try {
      let told;
      for (let tries = 0; !told; tries += 1) {
        try { told = await put(file, (share) => { bar.value = share; }); }
        catch (error) {
          if (!error.again || tries > 4) throw error;
          state.replaceChildren(`waiting ${error.again} s: ${error.message}`);
          await pause(error.again); state.replaceChildren(bar);
        }
      }
      const to = make("a", file.name); to.href = `/console/deliveries/${told.delivery}`;
      name.replaceChildren(to);
      let now = told.state;
      state.replaceChildren(chip(now));
      for (let wait = 0.2; !FINAL.includes(now); wait = Math.min(wait * 1.5, 3)) {
        await pause(wait);
        const row = await call(`/v1/deliveries/${told.delivery}`, undefined, "GET");
        if (row.state !== now) { now = row.state; state.replaceChildren(chip(now)); }
      }
      row.dataset.final = now;
    } catch (error) {
      state.replaceChildren(make("span", `not sent: ${error.message}`, "chip bad"));
      row.dataset.final = "failed";
    }
    renew();
  };
  const queue = []; let busy = 0;
  const next = () => { while (busy < 4 && queue.length) { busy += 1; upload(queue.shift()).finally(() => { busy -= 1; next(); }); } };
  const uploads = (files) => { queue.push(...files); next(); };
  ["dragover", "dragleave", "drop"].forEach((kind) => document.addEventListener(kind, (event) => {
    const drop = $("drop");
    if (!drop) return;
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") uploads([...event.dataTransfer.files]);
  }));
  document.addEventListener("change", (event) => {
    if (event.target.id === "upload-files") { uploads([...event.target.files]); event.target.value = ""; }
  });

  // An address says only what was chosen.
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form.filters")) return;
    [...event.target.elements].forEach((each) => { if (each.name && !each.value) each.disabled = true; });
  });

  // -- clicks and keys -----------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const on = (what) => event.target.closest(what);
    let it;
    if (on("[data-theme-switch]")) nemflowTheme();
    else if (on("[data-keys]")) $("keys").showModal();
    else if ((it = on("[data-bulk]"))) bulk(it.dataset.bulk);
    else if ((it = on("[data-how]"))) replay(it);
    else if (on("[data-choose-files]")) $("upload-files").click();
    else if ((it = on("[data-fetch]"))) {
      const answer = await fetch(it.dataset.fetch, { headers: { Accept: it.dataset.accept } });
      if (!answer.ok) { say(`Answer ${answer.status}.`, "bad"); return; }
      const link = make("a"); link.href = URL.createObjectURL(await answer.blob());
      link.download = it.dataset.name; link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    } else if ((it = on("[data-act]"))) {
      const words = it.textContent, lines = [make("p", it.dataset.confirm)];
      let note;
      if (it.dataset.note !== undefined) {
        const label = make("label", "Note"); note = make("input");
        note.id = "ask-note"; label.htmlFor = note.id; lines.push(label, note);
      }
      if (it.dataset.look) {
        try {
          const { counts } = await call(it.dataset.look, undefined, "GET");
          lines.push(make("p", `Its days and reads: ${Object.entries(counts).map(([what, n]) => `${n.toLocaleString("en")} ${what}`).join(", ")}.`));
        } catch (error) { lines.push(make("p", error.message)); }
      }
      if (!await ask(`${words}?`, lines, words)) return;
      if (note && !note.value.trim()) { say("Not done: a note is needed.", "bad"); return; }
      try {
        const told = await call(it.dataset.act, note && { note: note.value.trim() });
        say(`${words}: done.`);
        if (it.dataset.follow !== undefined) { location.assign(`/console/deliveries/${told.delivery}`); return; }
      } catch (error) { say(error.message, "bad"); }
      renew();
    }
  });
  let go = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    if (Date.now() - go < 1500) {
      const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) { go = 0; link.click(); return; }
    }
    if (event.key === "g") go = Date.now();
    else if (event.key === "?") $("keys").showModal();
    else if (event.key === "t") nemflowTheme();
    else if (event.key === "/" && $("search")) { event.preventDefault(); $("search").focus(); }
  });
})();
