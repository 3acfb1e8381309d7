import { useEffect } from "react";
import { useStreaming } from "./useStreaming.js";
import type { Streaming, StreamingOptions } from "./useStreaming.js";

interface Props {
  id: string | null;
  options: StreamingOptions;
  onView?: (view: Streaming) => void;
}

export function Follower({ id, options, onView }: Props) {
  const view = useStreaming(id, options);
  useEffect(() => onView?.(view), [view]);
  return (
    <p id="text" data-state={view.state}>
      {view.text}
    </p>
  );
}
