// What the page asks its server for.

async function send(path, body, query) {
  const address = `/api/${path}?${new URLSearchParams(query)}`;
  let response;
  try {
    response = await fetch(address, { method: "POST", body });
  } catch {
    throw new Error("The server does not answer. Is softperm app still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `The server failed (${response.status}).`);
}

export async function ask(path, body, query = {}) {
  const text = body instanceof Blob ? body : JSON.stringify(body);
  return (await send(path, text, query)).json();
}

export async function askForPicture(body) {
  return (await send("picture", body, {})).blob();
}

export function tell(element, text, bad = false) {
  element.textContent = text;
  element.classList.toggle("bad", bad);
}
