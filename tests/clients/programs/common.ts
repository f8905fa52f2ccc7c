/* Values from the environment, and checks. The types of Node.js are not needed for more. */
declare const process: { env: Record<string, string | undefined>; exit(code: number): never };

export function given(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

export function check(fact: boolean, name: string): asserts fact {
  if (!fact) throw new Error(`not so: ${name}`);
}

export function run(name: string, main: () => Promise<void>): void {
  main().then(
    () => console.log(`${name}: login, create, list, change, error, import`),
    (error: unknown) => {
      console.error(name, error);
      process.exit(1);
    },
  );
}
