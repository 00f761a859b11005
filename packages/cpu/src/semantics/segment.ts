/** What segments outside 64-bit mode say to an access: present, readable or writable, and within the limit. */
import { i32, i64, i64Halves } from "@xenoserver/wasm";
import { CodeMode, State } from "../state/layout.ts";
import { defineHelper } from "./helpers.ts";

/** Bits of a segment's attributes, as in the second word of a descriptor. */
const Attr = { readOrWrite: 2, expandDown: 4, code: 8, present: 0x80, db: 0x400 } as const;
const [CS, SS, FS] = [1, 2, 4];

/**
 * (segment, offset, bytes behind the first, 1 for a write) → the vector of the fault, #SS for the stack segment and else #GP,
 * or 0. Segments of real mode have limits only.
 */
defineHelper("segmentFault", ["i32", "i64", "i32", "i32"], "i32", (h) => {
  const { f } = h;
  const [segment, offset] = [h.param<"i32">(0), h.param<"i64">(1)];
  const [more, write] = [h.param<"i32">(2), h.param<"i32">(3)];
  // In flat code four segments are known to cover everything, and three of them to be writable.
  const isFlat = f.let(h.load32(State.codeMode).and(CodeMode.flat));
  const isOther = segment.geU(FS).or(segment.eq(CS).and(write));
  f.if(isFlat.and(isOther.eqz().shl(3)), () => f.return(i32(0)));
  const field = f.let(segment.shl(2).add(h.vb));
  const attr = f.let(f.load<"i32">("i32.load", field, State.segAttr));
  const limit = f.let(f.load<"i32">("i32.load", field, State.segLimit).extU());
  const vector = f.let(f.select(segment.eq(SS), i32(12), i32(13)));
  const isCode = f.let(attr.and(Attr.code).ne(0));
  f.if(h.load32(State.cr0).and(1), () => {
    f.if(attr.and(Attr.present).eqz(), () => f.return(vector));
    const lacks = f.let(attr.and(Attr.readOrWrite).eqz());
    f.if(f.select(write, lacks.or(isCode), lacks.and(isCode)), () => f.return(i32(13)));
  });
  const last = f.let(offset.add(more.extU()));
  f.if(
    isCode.or(attr.and(Attr.expandDown).eqz()),
    () => f.if(last.gtU(limit), () => f.return(vector)),
    () => {
      const top = f.let(f.select(attr.and(Attr.db), i64Halves(-1, 0), i64(0xffff)));
      f.if(offset.leU(limit).or(last.gtU(top)), () => f.return(vector));
    },
  );
  f.return(i32(0));
});
