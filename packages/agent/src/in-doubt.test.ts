import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AgentLost } from "./client.ts";
import { AgentError } from "./home.ts";
import { runsThere } from "./in-doubt.ts";

const LOST = new AgentLost(502, "server right: no answer within 10 s");

/** An agent that gives these answers, one after the other and the last for good. */
function agentThat(...answers: readonly (Error | undefined)[]) {
  const asked: string[] = [];
  const get = async <T>(path: string): Promise<T> => {
    const answer = answers[Math.min(asked.push(path), answers.length) - 1];
    if (answer !== undefined) throw answer;
    return {} as T;
  };
  return { asked, get };
}

describe("a domain whose move ended without a word", () => {
  const times = { everyMs: 1, forMs: 60_000 };

  test("is looked for until the line is there again", async () => {
    const agent = agentThat(LOST, new Error("ECONNREFUSED"), LOST, undefined);
    assert.equal(await runsThere(agent, 7, times), true);
    assert.deepEqual(agent.asked, Array(4).fill("/v1/domains/7/arrival"));
  });

  test("is known not to be there by that agent's word only", async () => {
    const agent = agentThat(
      LOST,
      new AgentError(500, "the journal is full"),
      new AgentError(404, "it has not arrived"),
    );
    assert.equal(await runsThere(agent, 7, times), false);
    assert.equal(agent.asked.length, 3);
  });

  test("stays in doubt if nobody tells", async () => {
    const agent = agentThat(LOST);
    assert.equal(await runsThere(agent, 7, { everyMs: 1, forMs: 0 }), undefined);
  });
});
