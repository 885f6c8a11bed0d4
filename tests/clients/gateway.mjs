// Settings of the Node scripts; see gateway.py for the variables.

export const url = process.env.DASHGATE_URL.replace(/\/$/, '');
export const key = process.env.DASHGATE_KEY;
export const wrongKey = 'sk-nobody-00000000000000000000000000000';
export const mounts = ['/wan', '/alibabacloudapi', ''];
export const compatibleBases = mounts.map(mount => `${mount}/compatible-mode/v1`);

export function step(...what) {
  console.log(...what);
}

export async function collect(stream, pick) {
  const parts = [];
  for await (const item of stream) {
    const part = pick(item);
    if (part) parts.push(part);
  }
  return parts;
}
