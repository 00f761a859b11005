/** Entry of a thread that compiles hot code, of one domain or several. */
import { isMainThread, parentPort } from "node:worker_threads";
import { DomainMemory } from "@xenoserver/cpu";
import { RegionCompiler } from "@xenoserver/cpu/jit/region-compiler.ts";
import { SpareHeap } from "@xenoserver/xen/host/spare-heap.ts";
import { fetchFrames } from "../snapshot/frame-source.ts";
import { EngineKeeper, TranslationKeeper } from "../translations/keeper.ts";
import { type TranslationsPlace, translationsPath } from "../translations/place.ts";
import {
  compileAtOnce,
  type RegionAnswer,
  type RegionMessage,
  type RegionQuestion,
  type RegionThreadData,
} from "./region-channel.ts";

/** How often what was translated is kept, if there is anything new. */
const KEEP_EVERY_MS = 2000;
const GIVE_BACK_EVERY_MS = 500;
/** What starting and the first of a boot leave is used again until then. */
const GIVE_BACK_AFTER_MS = 1000;
/** By path; several domains may share one. */
const keepers = new Map<string, TranslationKeeper | undefined>();
const engines = new EngineKeeper();
const spare = new SpareHeap();
let hasCompiled = false;

if (!isMainThread) {
  compileAtOnce();
  const served = new Map<number, RegionThreadData>();
  parentPort!.on("message", (message: RegionMessage) => {
    if (message.kind === "add") {
      served.set(message.domain, message.data);
      serve(message.data);
    } else {
      for (const { port } of served.get(message.domain)?.ends ?? []) port.close();
      served.delete(message.domain);
      keepAll(true);
      parentPort!.postMessage(message);
    }
  });
  setInterval(() => keepAll(false), KEEP_EVERY_MS).unref();
  setTimeout(() => setInterval(giveBack, GIVE_BACK_EVERY_MS).unref(), GIVE_BACK_AFTER_MS).unref();
}

/** Compiling leaves much that nobody needs: here, and in V8's own threads that optimise what was compiled. */
function giveBack(): void {
  if (hasCompiled) spare.giveBack();
  hasCompiled = false;
}

/** @param isLast  whether a domain has ended, and perhaps the process with it */
function keepAll(isLast: boolean): void {
  engines.keep(isLast);
  for (const keeper of keepers.values()) keeper?.keep(isLast);
}
function keeperFor(memory: DomainMemory, place: TranslationsPlace): TranslationKeeper | undefined {
  const path = translationsPath(place, memory);
  if (!keepers.has(path)) keepers.set(path, TranslationKeeper.open(path));
  return keepers.get(path);
}

function serve({ memory: handle, ends, frames, translations }: RegionThreadData): void {
  const memory = DomainMemory.attach(handle);
  if (frames !== undefined) fetchFrames(memory, frames);
  const keeper = translations === undefined ? undefined : keeperFor(memory, translations);
  const compiler = new RegionCompiler(memory, (...made) => keeper?.note(...made));
  for (const { port, answers } of ends) {
    const count = new Int32Array(answers);
    const answer = (message: RegionAnswer): void => {
      port.postMessage(message);
      Atomics.add(count, 0, 1);
    };
    if (keeper?.known) answer({ kind: "known", handle: keeper.known });
    port.on("message", (question: RegionQuestion) => {
      hasCompiled = true;
      if (question.kind === "compile") answer({ kind: "compiled", compiled: compiler.compile(question.job) });
      else if (question.kind === "read") keeper?.noteRead(question.at, question.module);
      else engines.note(question.path, question.module, question.bytes, question.codeBytes);
    });
  }
}
