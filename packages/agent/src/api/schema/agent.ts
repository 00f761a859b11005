/** The agent itself. */
import { z } from "zod";
import { answer, text, wholeNumber } from "./fields.ts";

export const AgentInfo = answer({ pid: wholeNumber(), protocol: z.literal(1) });
export const ErrorAnswer = answer({ error: text().describe("One sentence: what is wrong, and what is expected.") });
export const Log = answer({ log: text() });
export const OpenApiDocument = z.looseObject({ openapi: z.string() });
