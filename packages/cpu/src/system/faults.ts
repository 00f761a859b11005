/** An exception for the guest. */
export class GuestFault {
  readonly vector: number;
  /** Undefined for exceptions that push none. */
  readonly errorCode: number | undefined;
  constructor(vector: number, errorCode?: number) {
    this.vector = vector;
    this.errorCode = errorCode;
  }
}
export const Vector = {
  de: 0,
  db: 1,
  nmi: 2,
  bp: 3,
  of: 4,
  br: 5,
  ud: 6,
  nm: 7,
  df: 8,
  ts: 10,
  np: 11,
  ss: 12,
  gp: 13,
  pf: 14,
  mf: 16,
  ac: 17,
  xm: 19,
} as const;
/** Vectors that push an error code: #DF #TS #NP #SS #GP #PF #AC. */
const WITH_ERROR_CODE = new Set<number>([8, 10, 11, 12, 13, 14, 17]);

/** @param errorCode  left out where the vector has none */
export const faultOf = (vector: number, errorCode: number): GuestFault =>
  new GuestFault(vector, WITH_ERROR_CODE.has(vector) ? errorCode : undefined);
export const gp = (code = 0) => new GuestFault(Vector.gp, code);
export const ud = () => new GuestFault(Vector.ud);
