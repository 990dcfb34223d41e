// Turns the conformance tests of the Common Expression Language, as the npm package @bufbuild/cel-spec has them, into
// one JSON array: `node cases.mjs PACKAGE_DIRECTORY > cases.json`. Each case keeps its fields and gains `file` and `section`.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const module = resolve(process.argv[2], "dist/esm/testdata/conformance.js");
const { tests } = await import(pathToFileURL(module).href);
const cases = tests.suites.flatMap((file) =>
  (file.suites ?? []).flatMap((section) =>
    section.tests.map((test) => ({ file: file.name, section: section.name, ...test.original })),
  ),
);
process.stdout.write(JSON.stringify(cases));
