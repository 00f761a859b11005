/** What is asked of a domain's own process, one request for one answer. */
import type { ArgsOf, OperationName } from "@xenoserver/toolstack/control/index.ts";
import type { z } from "zod";
import { type PostRoute, post, type Route } from "../route.ts";
import { answer, listOf, text, wholeNumber } from "../schema/fields.ts";
import * as schema from "../schema/index.ts";

const camel = (op: string): string => op.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());

/** An operation of the control socket, its arguments as the body. */
function control<N extends OperationName, B extends z.ZodType<ArgsOf<N>>>(
  op: N,
  summary: string,
  body: B,
  result: z.ZodType,
  more: Pick<PostRoute, "isRepeatable"> = {},
): Route {
  return post({
    id: camel(op),
    path: `/v1/domains/{ref}/${op}`,
    ...{ summary, body, result, refusals: [409], ...more },
    answer: ({ supervisor, ref, body: args }) => supervisor.call(ref, op, args),
  });
}

const { DomainInfo, NoBody, Nothing, StorePath } = schema;
const REPEATABLE = { isRepeatable: true } as const;
const StoreValue = answer({ value: text().nullable().describe("null if there is no such node.") });

export const CONTROL_ROUTES: readonly Route[] = [
  control("info", "All that there is to know of it", NoBody, DomainInfo, REPEATABLE),
  control("pause", "Stop its vcpus between two instructions", NoBody, DomainInfo, REPEATABLE),
  control("unpause", "Let its vcpus run on", NoBody, DomainInfo, REPEATABLE),
  control("destroy", "End it at once", NoBody, Nothing, REPEATABLE),
  control("sysrq", "Press a key of the kernel's magic SysRq", schema.PressSysrq, Nothing),
  control("rename", "Give it another name", schema.RenameDomain, DomainInfo, REPEATABLE),
  control("memory-set", "How much memory its guest is to have", schema.SetMemory, DomainInfo, REPEATABLE),
  control("vcpu-set", "How many vcpus its guest is to use", schema.SetVcpus, DomainInfo, REPEATABLE),
  control("vcpu-pin", "On which processors its vcpus may run", schema.PinVcpus, DomainInfo, REPEATABLE),
  control("weight-set", "Its share where domains want more than there is", schema.SetWeight, DomainInfo, REPEATABLE),
  control("cap-set", "How much its vcpus may take together", schema.SetCap, DomainInfo, REPEATABLE),
  control("block-attach", "Plug a disk in", schema.AttachDisk, DomainInfo),
  control("block-detach", "Take a disk out", schema.DetachDisk, schema.Agreed),
  control("network-attach", "Plug an interface in", schema.AttachVif, answer({ devid: wholeNumber() })),
  control("network-detach", "Take an interface out", schema.DetachVif, schema.Agreed),
  control(
    "console-read",
    "What its console printed, as far as it is kept",
    NoBody,
    answer({ offset: wholeNumber(), base64: text() }),
    REPEATABLE,
  ),
  control("console-write", "Type at its console", schema.WriteConsole, Nothing),
  control("xenstore-read", "A node's value", StorePath, StoreValue, REPEATABLE),
  control("xenstore-list", "A node's children", StorePath, answer({ names: listOf(text()) }), REPEATABLE),
  control("xenstore-tree", "A node and all below", StorePath, answer({ nodes: listOf(schema.StoreNode) }), REPEATABLE),
  control("xenstore-write", "Change or make a node", schema.WriteStore, Nothing, REPEATABLE),
  control("xenstore-rm", "Remove a node and all below", StorePath, Nothing, REPEATABLE),
  control("xenstore-chmod", "Change who may use a node", schema.ChangeStorePermissions, Nothing, REPEATABLE),
];
