/** The sidebar's icon: things made from things. */
import { LabIcon } from '@jupyterlab/ui-components';

import svgstr from '../style/icon.svg';

export const icon = new LabIcon({ name: 'jupyter_mlp:graph', svgstr });
