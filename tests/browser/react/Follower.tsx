import { useEffect } from "react";
import { useStreaming } from "lg-streaming/react";
import type { Streaming, StreamingOptions } from "lg-streaming/react";

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
