/**
 * Names: a guest's questions go to the host's own resolvers, and their answers back, untouched. Each question has a
 * socket of its own, so that its port is as hard to guess for a forger as the host's own would be.
 */
import { createSocket, type Socket } from "node:dgram";

/** Takes the answer; the bytes are its to keep. */
type OnAnswer = (answer: Uint8Array) => void;

const MAX_QUESTIONS = 256;
const MAX_QUESTION_BYTES = 4096;
const HEADER_BYTES = 12;
/** The next resolver is asked too if there is no answer after this. */
const NEXT_RESOLVER_MS = 1500;
const GIVE_UP_MS = 8000;

export class DnsForwarder {
  readonly #resolvers: () => readonly string[];
  readonly #open = new Set<Question>();

  constructor(resolvers: () => readonly string[]) {
    this.#resolvers = resolvers;
  }

  /** Passes a question on; what cannot be asked gets no answer, and the guest asks again. */
  ask(question: Uint8Array, onAnswer: OnAnswer): void {
    if (question.length < HEADER_BYTES || question.length > MAX_QUESTION_BYTES) return;
    if (this.#open.size >= MAX_QUESTIONS) return;
    const asked: Question = new Question(question.slice(), this.#resolvers().map(splitHostPort), (answer) => {
      this.#open.delete(asked);
      if (answer !== undefined) onAnswer(answer);
    });
    this.#open.add(asked);
    asked.askNext();
  }

  close(): void {
    for (const question of [...this.#open]) question.end(undefined);
  }
}

class Question {
  readonly #bytes: Uint8Array;
  readonly #resolvers: { readonly host: string; readonly port: number }[];
  readonly #onEnd: (answer: Uint8Array | undefined) => void;
  readonly #sockets: Socket[] = [];
  readonly #giveUp: NodeJS.Timeout;
  #next: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(
    bytes: Uint8Array,
    resolvers: { readonly host: string; readonly port: number }[],
    onEnd: (answer: Uint8Array | undefined) => void,
  ) {
    this.#bytes = bytes;
    this.#resolvers = [...resolvers];
    this.#onEnd = onEnd;
    this.#giveUp = setTimeout(() => this.end(undefined), GIVE_UP_MS);
  }

  askNext(): void {
    const resolver = this.#resolvers.shift();
    if (resolver === undefined || this.#ended) return;
    const socket = createSocket(resolver.host.includes(":") ? "udp6" : "udp4");
    this.#sockets.push(socket);
    socket.on("error", () => this.askNext());
    socket.on("message", (answer) => {
      if (this.#isAnswer(answer)) this.end(answer);
    });
    // A connected socket takes datagrams of that resolver only.
    socket.connect(resolver.port, resolver.host, () => {
      if (!this.#ended) socket.send(this.#bytes);
    });
    clearTimeout(this.#next);
    this.#next = setTimeout(() => this.askNext(), NEXT_RESOLVER_MS);
  }

  #isAnswer(answer: Uint8Array): boolean {
    return (
      answer.length >= HEADER_BYTES &&
      answer[0] === this.#bytes[0] &&
      answer[1] === this.#bytes[1] &&
      (answer[2] & 0x80) !== 0
    );
  }

  end(answer: Uint8Array | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#giveUp);
    clearTimeout(this.#next);
    for (const socket of this.#sockets) socket.close();
    this.#onEnd(answer);
  }
}

/** Takes "ADDRESS", "ADDRESS:PORT" or "[ADDRESS]:PORT" apart; the port is 53 unless named. */
export function splitHostPort(server: string): { host: string; port: number } {
  const match = /^\[(.*)\]:(\d+)$|^([^:]*):(\d+)$/.exec(server);
  if (match === null) return { host: server, port: 53 };
  return { host: match[1] ?? match[3]!, port: Number(match[2] ?? match[4]) };
}
