export default function photoLoader(options: { src: string; width: number; quality?: number }): string;
