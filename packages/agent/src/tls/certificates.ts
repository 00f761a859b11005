/**
 * Certificates by which agents know one another. One authority of the user's own signs a certificate for each server; who has one of them is
 * let in and lets others in. Nothing else is trusted.
 */
import "reflect-metadata";
import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";

export interface Certificate {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

const KEY = { name: "ECDSA", namedCurve: "P-256" } as const;
const SIGNING = { ...KEY, hash: "SHA-256" } as const;
const AUTHORITY_YEARS = 10;
const SERVER_YEARS = 2;
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** An authority for a user's own servers. */
export async function makeAuthority(): Promise<Certificate> {
  const keys = await crypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    ...(await common(keys, AUTHORITY_YEARS)),
    name: "CN=xenoserver authority",
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { cert: cert.toString("pem"), key: await keyPem(keys.privateKey) };
}

/**
 * A certificate for one server, which proves it in both directions.
 * @param hosts  names and addresses by which others reach it, at least one
 */
export async function issueCertificate(authority: Certificate, hosts: readonly string[]): Promise<Certificate> {
  const keys = await crypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const issuer = new x509.X509Certificate(authority.cert);
  const signingKey = await privateKey(authority.key);
  const cert = await x509.X509CertificateGenerator.create({
    ...(await common(keys, SERVER_YEARS)),
    subject: `CN=${hosts[0]}`,
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH]),
      new x509.SubjectAlternativeNameExtension(
        hosts.map((host) => ({ type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host })),
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return { cert: cert.toString("pem"), key: await keyPem(keys.privateKey) };
}

async function common(_keys: CryptoKeyPair, years: number) {
  const notBefore = new Date(Date.now() - 3_600_000);
  const notAfter = new Date(notBefore);
  notAfter.setFullYear(notAfter.getFullYear() + years);
  return { serialNumber: randomBytes(16).toString("hex"), notBefore, notAfter, signingAlgorithm: SIGNING };
}

async function keyPem(key: CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

function privateKey(pem: string): Promise<CryptoKey> {
  return crypto.subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(pem), KEY, false, ["sign"]);
}
