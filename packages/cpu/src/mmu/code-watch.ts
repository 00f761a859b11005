import { type AddressType, type Func, i32, type ModuleBuilder } from "@xenoserver/wasm";
import { CODE_GRANULE_BYTES, type MemoryLayout } from "../state/layout.ts";
import { frameOf } from "./emit.ts";
import type { MmuImports } from "./mmu.ts";

/** (host, size) → 1 if decoded or translated code lies in these bytes. */
export function defineHoldsCode(m: ModuleBuilder, layout: MemoryLayout): Func {
  const func = m.func([m.addressType, "i32"], ["i32"]);
  const f = func.fn;
  const host = f.param<AddressType>(0);
  const size = f.param<"i32">(1);
  f.if(host.ltU(layout.framesOffset), () => f.return(i32(0)));
  const frame = f.let(frameOf(host, layout));
  f.if(f.load<"i32">("i32.load8_u", frame, layout.frameFlags).eqz(), () => f.return(i32(0)));
  const shift = Math.log2(CODE_GRANULE_BYTES);
  const granule = f.var("i32", host.wrap().and(4095).shrU(shift));
  const last = f.let(host.wrap().and(4095).add(size).sub(1).shrU(shift));
  f.while(
    () => granule.get().leU(last),
    () => {
      const at = frame.shl(4).add(granule.get().shrU(3));
      const bit = f.load<"i32">("i32.load8_u", at, layout.codeMaps).shrU(granule.get().and(7)).and(1);
      f.if(bit, () => f.return(i32(1)));
      granule.set(granule.get().add(1));
    },
  );
  f.return(i32(0));
  f.unreachable();
  return func;
}

/** (host, size): tells the engine if code lies in these bytes. */
export function defineCodeWritten(m: ModuleBuilder, layout: MemoryLayout, imports: MmuImports, holdsCode: Func): Func {
  const func = m.func([m.addressType, "i32"], []);
  const f = func.fn;
  const host = f.param<AddressType>(0);
  const size = f.param<"i32">(1);
  f.if(f.call<"i32">(holdsCode, host, size), () =>
    f.callVoid(imports.codeModified, frameOf(host, layout), host.wrap().and(4095), size),
  );
  return func;
}
