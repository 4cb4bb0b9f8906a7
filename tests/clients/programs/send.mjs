// nodemailer sends a file: send.mjs PORT FILE ROOT, with "-" for ROOT to go without TLS.
// NODEMAILER is the folder that has node_modules.
import { createReadStream, readFileSync } from "node:fs";
import { createRequire } from "node:module";

const nodemailer = createRequire(`${process.env.NODEMAILER}/`)("nodemailer");
const [port, file, root] = process.argv.slice(2);
const sealed = root !== "-";

const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: Number(port),
  secure: false,
  requireTLS: sealed,
  ignoreTLS: !sealed,
  ...(sealed && { tls: { ca: readFileSync(root), servername: "mail.example" } }),
});
await transport.sendMail({
  envelope: {
    from: "me@penstock.test",
    to: ["you@penstock.test"],
    use8BitMime: readFileSync(file).some((octet) => octet > 127),
  },
  raw: createReadStream(file),
});
transport.close();
