// Asks the agent: see docs/api.md.

/** Trouble that is no error of this page. */
export class Refused extends Error {}

export async function ask(question, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  let answer;
  try {
    answer = await fetch(`api/${question}?${new URLSearchParams(given)}`, { signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The agent does not answer: has it ended?");
  }
  const told = await answer.json();
  if (!answer.ok) throw new Refused(told.error);
  return told;
}
