// What the pages of NMIs, problems, dead files and keys do; see console.js for what all do.
(() => {
  const { call, ask, say, renew, make } = window.nemflow;

  // -- a calendar is one stop of the Tab key; arrows move within -----------------------------------
  const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 };
  document.addEventListener("keydown", (event) => {
    const cell = event.target.closest && event.target.closest("[data-roam] [data-day]");
    if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...cell.closest("[data-roam]").querySelectorAll("[data-day]")];
    let to;
    if (STEPS[event.key]) {
      const day = new Date(`${cell.dataset.day}T00:00Z`);
      day.setUTCDate(day.getUTCDate() + STEPS[event.key]);
      to = all.find((each) => each.dataset.day === day.toISOString().slice(0, 10));
    } else if (event.key === "Home") to = all[0];
    else if (event.key === "End") to = all[all.length - 1];
    else return;
    event.preventDefault();
    if (!to) return;
    cell.tabIndex = -1; to.tabIndex = 0; to.focus();
  });

  // -- forms whose choice is the address -------------------------------------------------------------
  document.addEventListener("change", (event) => {
    if (event.target.matches("form.switch select")) event.target.form.requestSubmit();
  });

  // -- downloads: the same address in another form -----------------------------------------------------
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("[data-get]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    say(`${link.textContent}: fetching …`);
    try {
      const answer = await fetch(link.href, { headers: { Accept: link.dataset.get } });
      if (!answer.ok) {
        const told = await answer.json().catch(() => ({}));
        throw new Error([told.detail || `Answer ${answer.status}.`, told.hint].filter(Boolean).join(" "));
      }
      const made = make("a");
      made.href = URL.createObjectURL(await answer.blob());
      made.download = link.download;
      made.click();
      setTimeout(() => URL.revokeObjectURL(made.href), 10000);
      say(`${link.download}: fetched.`);
    } catch (error) { say(error.message, "bad"); }
  });

  // -- many dead files with one reason: listed first -----------------------------------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-many]");
    if (!button) return;
    const body = JSON.parse(button.dataset.body);
    try {
      const would = await call(button.dataset.many, { ...body, dry_run: true });
      const list = make("ul");
      would.deliveries.slice(0, 12).forEach((each) => list.append(make("li", `#${each.delivery} ${each.name}`)));
      if (would.found > 12) list.append(make("li", `… and ${would.found - 12} more`));
      const words = `${would.found} will be queued again, with all attempts.`;
      if (!await ask(`${button.textContent}?`, [make("p", words), list], would.found ? "Do it" : null)) return;
      const done = await call(button.dataset.many, body);
      say(`${done.done.length} done${done.refused.length ? `, ${done.refused.length} not: ${done.refused[0].detail}` : "."}`,
        done.refused.length ? "bad" : "good");
    } catch (error) { say(error.message, "bad"); }
    renew();
  });

  // -- keys: made here, shown once -----------------------------------------------------------------------
  const shown = (told) => {
    const secret = make("code", told.secret, "secret"), out = document.getElementById("new-key");
    secret.id = "secret";
    const copy = make("button", "Copy", "button"); copy.type = "button";
    copy.onclick = async () => { await navigator.clipboard.writeText(told.secret); say("Copied."); };
    const box = make("div", undefined, "alert good");
    box.append(make("b", `Key ${told.key} for ${told.name}. `),
      "Copy it now: it is shown this once and kept nowhere.", secret, copy);
    out.replaceChildren(box);
    box.tabIndex = -1; box.focus();
  };
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("[data-make-key]");
    if (!form) return;
    event.preventDefault();
    const given = new FormData(form);
    const body = { name: given.get("name"), scopes: given.getAll("scope") };
    if (given.get("sender")) body.sender = given.get("sender");
    if (given.get("expires")) body.expires = given.get("expires");
    if (!body.scopes.length) { say("Choose what the key may do.", "bad"); return; }
    try { shown(await call("/v1/keys", body)); form.reset(); } catch (error) { say(error.message, "bad"); }
    renew();
  });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-rotate]");
    if (!button) return;
    if (!await ask("Make a second key like it?", [make("p", button.dataset.confirm)], "Make it")) return;
    try { shown(await call(button.dataset.rotate, {})); } catch (error) { say(error.message, "bad"); }
    renew();
  });
})();
