/** Operations, which requests with `Prefer: respond-async` begin. */
import { get, post, type RawRoute, type Route } from "../route.ts";
import { NoBody, Operation, OperationList, WaitQuery } from "../schema/index.ts";
import { sendEvents } from "../server-sent-events.ts";

const DEFAULT_WAIT_SECONDS = 30;

const events: RawRoute = {
  kind: "raw",
  method: "GET",
  id: "followOperation",
  path: "/v1/operations/{id}/events",
  summary: "What becomes of an operation, as it happens",
  contentType: "text/event-stream",
  describes:
    "Server-sent events: `progress`, then one `end`, each with the operation as its data. `Last-Event-ID` resumes behind an event; behind the last, the answer is 204.",
  respond: ({ operations, ref }, request, response) => sendEvents(operations, ref, request, response),
};

export const OPERATION_ROUTES: readonly Route[] = [
  get({
    id: "listOperations",
    path: "/v1/operations",
    summary: "Operations that run, and the last of those that are over; the oldest first",
    result: OperationList,
    answer: ({ operations }) => ({ operations: operations.list() }),
  }),
  get({
    id: "getOperation",
    path: "/v1/operations/{id}",
    summary: "One operation",
    result: Operation,
    isTagged: true,
    answer: ({ operations, ref }) => operations.get(ref),
  }),
  get({
    id: "awaitOperation",
    path: "/v1/operations/{id}/wait",
    summary: "Wait until an operation is over, or for a time; either way the answer is the operation",
    query: WaitQuery,
    result: Operation,
    answer: ({ operations, ref, query: { timeoutSeconds = DEFAULT_WAIT_SECONDS } }) =>
      operations.wait(ref, timeoutSeconds),
  }),
  events,
  post({
    id: "cancelOperation",
    path: "/v1/operations/{id}/cancel",
    summary: "Take an operation back; the answer comes when it is undone",
    body: NoBody,
    result: Operation,
    refusals: [409],
    answer: ({ operations, ref }) => operations.cancel(ref),
  }),
];
