/** Finds the route of a request. */
import type { IncomingMessage } from "node:http";
import { AgentError } from "../home.ts";
import type { Route } from "./route.ts";

export interface Match<R> {
  readonly route: R;
  /** What stands for the name in braces; no path has more than one. */
  readonly ref: string;
}

/** @throws AgentError  it asks for what is no path */
export function urlOf({ url = "/" }: IncomingMessage): URL {
  const parsed = url.startsWith("/") ? URL.parse(`http://agent${url}`) : null;
  if (parsed === null) throw new AgentError(400, `${url} is asked for, expected a path`);
  return parsed;
}

/** @throws AgentError  404, and 405 with what the path can be asked by */
export function match<R extends Route>(routes: readonly R[], method: string, pathname: string): Match<R> {
  const found = routes.flatMap((route) => {
    const ref = refOf(route.path, pathname);
    return ref === undefined ? [] : [{ route, ref }];
  });
  const wanted = found.find(({ route }) => route.method === method);
  if (wanted !== undefined) return wanted;
  if (found.length === 0) throw new AgentError(404, `${method} ${pathname}: no such resource`);
  const methods = found.map(({ route }) => route.method).join(", ");
  throw new AgentError(405, `${method} ${pathname}: expected ${methods}`);
}

function refOf(path: string, pathname: string): string | undefined {
  const [wanted, given] = [path.split("/"), pathname.split("/")];
  if (wanted.length !== given.length) return undefined;
  let ref = "";
  for (const [n, part] of wanted.entries()) {
    if (!part.startsWith("{")) {
      if (part !== given[n]) return undefined;
      continue;
    }
    ref = decoded(given[n]!);
    if (ref === "") return undefined;
  }
  return ref;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new AgentError(400, `${part} in the path is ill encoded, expected UTF-8 with %`);
  }
}
