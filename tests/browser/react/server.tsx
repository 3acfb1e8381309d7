// What a server that renders React sends: printed as JSON. Node has no window, no document and no storage.

import { Activity, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { Follower } from "./Follower.js";

function follower(id: string | null) {
  return renderToString(
    <StrictMode>
      <Activity>
        <Follower id={id} options={{ resume: true }} />
      </Activity>
    </StrictMode>,
  );
}

console.log(JSON.stringify({ followed: follower("acme/run-1"), idle: follower(null) }));
