/**
 * The rival sharp, as a careful user calls it: `node sharp.mjs JOB.json`.
 *
 * Reads a job as `runner.py` writes it, writes the files and a result beside them. Two methods:
 *   stepping  quality 85, 5 less until the file fits, floor 20; each step decodes, turns and resizes anew.
 *   secant    decodes, turns and resizes once; searches log(bytes) against quality by secants, per format,
 *             until a file fills 93 % of its budget or nothing is left to try.
 * sharp's own defaults stay (AVIF 4:4:4, WebP effort 4) except AVIF's effort, which is a setting, and
 * JPEG's mozjpeg by the job, which is what somebody who counts bytes switches on.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const GOOD_FILL = 0.93;
const AIM_FILL = 0.965;
const FIRST_GUESS = 70;
const TYPICAL_SLOPE = 0.03;
// Secants may creep along a bend of WebP's curve; from here on the bracket is halved.
const MAX_SECANTS = 4;

const job = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const sharp = createRequire(join(job.settings.modules, 'index.js'))('sharp');
const { quality_min: LOW, quality_max: HIGH, variants } = job.recipe;
if (job.settings.concurrency) sharp.concurrency(job.settings.concurrency);

function resized(input, variant) {
  const { width, height, fit } = variant;
  return input.resize({ width, height, fit, withoutEnlargement: true });
}

function encoder(format, quality) {
  switch (format) {
    case 'avif':
      return (image) => image.avif({ quality, effort: job.settings.effort });
    case 'webp':
      return (image) => image.webp({ quality });
    default:
      return (image) => image.flatten({ background: '#fff' }).jpeg({ quality, progressive: true, mozjpeg: job.settings.mozjpeg });
  }
}

/** sharp reads pixels that it wrote with toBuffer({ resolveWithObject: true }). */
function fromRaw({ data, info: { width, height, channels } }) {
  return sharp(data, { raw: { width, height, channels } });
}

async function rawPixels(image) {
  return image.toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
}

async function stepping(photo, variant, format) {
  for (let quality = HIGH, encodes = 1; ; quality -= 5, encodes += 1) {
    const image = resized(sharp(photo.path).rotate(), variant);
    const { data, info } = await encoder(format, quality)(image).toBuffer({ resolveWithObject: true });
    if (!variant.max_bytes || data.length <= variant.max_bytes || quality <= LOW) {
      return { data, info, quality, encodes };
    }
  }
}

function interpolated(tried, aim) {
  const [near, far] = [...tried].sort((a, b) => Math.abs(a.log - aim) - Math.abs(b.log - aim));
  const rise = far ? (near.log - far.log) / (near.quality - far.quality) : TYPICAL_SLOPE;
  return Math.floor(near.quality + (aim - near.log) / (rise > 0 ? rise : TYPICAL_SLOPE));
}

async function secant(pixels, variant, format) {
  const encode = (quality) => encoder(format, quality)(fromRaw(pixels)).toBuffer({ resolveWithObject: true });
  if (!variant.max_bytes) return { ...(await encode(HIGH)), quality: HIGH, encodes: 1 };
  const aim = Math.log(variant.max_bytes * AIM_FILL);
  const tried = [];
  let below = LOW - 1, above = HIGH + 1, quality = FIRST_GUESS, best = null, least = null;
  while (below + 1 < above) {
    const { data, info } = await encode(quality);
    tried.push({ quality, log: Math.log(data.length) });
    if (data.length <= variant.max_bytes) [below, best] = [quality, { data, info, quality }];
    else [above, least] = [quality, { data, info, quality }];
    if (best && best.data.length >= GOOD_FILL * variant.max_bytes) break;
    const next = tried.length < MAX_SECANTS ? interpolated(tried, aim) : Math.floor((below + above) / 2);
    quality = Math.max(below + 1, Math.min(above - 1, next));
  }
  return { ...(best ?? least), encodes: tried.length };
}

async function makeVariant(photo, pixels, variant, format) {
  const found = pixels
    ? await secant(pixels.get(variant.name), variant, format)
    : await stepping(photo, variant, format);
  const path = join(job.folder, `${photo.id}.${variant.name}.${format}`);
  writeFileSync(path, found.data);
  const { quality, encodes, info: { width, height } } = found;
  const [name, bytes] = [variant.name, found.data.length];
  return { photo: photo.id, variant: name, format, path, bytes, width, height, quality, encodes };
}

/** Each variant's pixels; the smaller ones come from the largest. */
async function decodedOnce(photo) {
  const pixels = new Map();
  for (const variant of variants) {
    const first = pixels.values().next().value;
    const base = first ? fromRaw(first) : sharp(photo.path).rotate();
    pixels.set(variant.name, await rawPixels(resized(base, variant)));
  }
  return pixels;
}

async function make(photo) {
  const pixels = job.settings.method === 'secant' ? await decodedOnce(photo) : null;
  const files = [];
  for (const variant of variants) {
    for (const format of job.recipe.formats) files.push(await makeVariant(photo, pixels, variant, format));
  }
  return files;
}

/** The first variant's pixels before any encoder, for judging the resize alone. */
async function buffers(photo) {
  const image = resized(sharp(photo.path).rotate(), variants[0]).flatten({ background: '#fff' });
  const { data, info: { width, height } } = await rawPixels(image);
  const path = join(job.folder, `${photo.id}.${variants[0].name}.ppm`);
  writeFileSync(path, Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), data]));
  const [variant, bytes] = [variants[0].name, data.length];
  return [{ photo: photo.id, variant, format: 'ppm', path, bytes, width, height, quality: 100, encodes: 0 }];
}

async function probe(photo) {
  await sharp(photo.path).resize(16, 16).raw().toBuffer();
  return [];
}

const action = { make, buffers, probe }[job.action];
const result = { versions: { sharp: sharp.versions.sharp, libvips: sharp.versions.vips }, photos: {}, files: [], errors: {} };

async function one(photo) {
  const [started, busy] = [performance.now(), process.cpuUsage()];
  try {
    result.files.push(...(await action(photo)));
  } catch (error) {
    result.errors[photo.id] = String(error.message ?? error);
  }
  const { user, system } = process.cpuUsage(busy);
  result.photos[photo.id] = { wall_s: (performance.now() - started) / 1e3, cpu_s: (user + system) / 1e6 };
}

mkdirSync(job.folder, { recursive: true });
const queue = [...job.photos];
async function lane() {
  for (let photo = queue.shift(); photo; photo = queue.shift()) await one(photo);
}
await Promise.all(Array.from({ length: job.settings.parallel ?? 1 }, lane));
writeFileSync(job.result, JSON.stringify(result));
