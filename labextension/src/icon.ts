/** The sidebar's icon: things made from things. */
import { LabIcon } from '@jupyterlab/ui-components';

import cameraSvg from '../style/camera.svg';
import clockSvg from '../style/clock.svg';
import svgstr from '../style/icon.svg';

export const icon = new LabIcon({ name: 'jupyter_mlp:graph', svgstr });

/** A snapshot; JupyterLab's own disk means saving. */
export const cameraIcon = new LabIcon({ name: 'jupyter_mlp:camera', svgstr: cameraSvg });

/** A schedule. */
export const clockIcon = new LabIcon({ name: 'jupyter_mlp:clock', svgstr: clockSvg });
