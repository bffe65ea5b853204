// What the pages cannot do without a script: copy, search as you type, and figures that stay up to date.
"use strict";

document.documentElement.classList.add("scripted");

const status = document.getElementById("status");
const announce = (text) => {
  if (status) status.textContent = text;
};

// Copies the text of the element that `data-copy` names.
const copy = async (button) => {
  const text = document.getElementById(button.dataset.copy).textContent.trim();
  const label = button.dataset.label || button.textContent;
  button.dataset.label = label;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    announce("Copied to the clipboard.");
  } catch {
    // Without permission, and on pages that are not from a secure origin.
    const range = document.createRange();
    range.selectNodeContents(document.getElementById(button.dataset.copy));
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    const done = document.execCommand("copy");
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    announce(button.textContent);
  }
  setTimeout(() => {
    button.textContent = label;
  }, 2000);
};

// Loads a page of the console and replaces the elements with these ids by its own.
const replace = async (url, ids, headers, signal) => {
  const response = await fetch(url, { headers, signal, credentials: "same-origin" });
  if (response.redirected) {
    // The session has ended.
    location.reload();
    return;
  }
  if (!response.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ids) {
    const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
    if (old && fresh) old.replaceWith(fresh);
  }
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-check-all]");
  if (!all) return;
  for (const box of document.querySelectorAll(`input[name="${all.dataset.checkAll}"]`)) box.checked = all.checked;
});

// Search as you type: `data-search` names the element with the results.
for (const form of document.querySelectorAll("form[data-search]")) {
  let timer;
  let pending;
  const search = async () => {
    pending?.abort();
    pending = new AbortController();
    const fields = [...new FormData(form)].filter(([, value]) => value !== "");
    const url = `${form.getAttribute("action")}?${new URLSearchParams(fields)}`;
    try {
      await replace(url, [form.dataset.search], {}, pending.signal);
      history.replaceState(null, "", url);
      announce(document.querySelector("[data-count]")?.dataset.count ?? "");
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 250);
  });
}

// Figures that stay up to date: `data-live` is the number of seconds. This does not keep a session.
for (const element of document.querySelectorAll("[data-live]")) {
  const { id } = element;
  setInterval(() => {
    if (!document.hidden) replace(location.href, [id], { "x-keygate-console-live": "1" }).catch(() => {});
  }, Number(element.dataset.live) * 1000);
}
